// m2m-operator is machine-to-machine authentication that lives in a Kubernetes
// cluster. One binary has all roles; each runs as its own ServiceAccount.
package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client/config"
)

// version is set when the binary is built.
var version = "dev"

func main() {
	if err := newCommand().ExecuteContext(ctrl.SetupSignalHandler()); err != nil {
		fmt.Fprintln(os.Stderr, "m2m-operator:", err)
		os.Exit(1)
	}
}

// common are the flags that all roles have.
type common struct {
	kubeconfig string
	namespace  string
	namespaces []string
	logLevel   string
}

func newCommand() *cobra.Command {
	var c common
	root := &cobra.Command{
		Use:   "m2m-operator",
		Short: "Machine-to-machine authentication that lives in a Kubernetes cluster",
		Long: `m2m-operator gives each M2MClient of the cluster a credential in a Secret, and
exchanges credentials for short-lived JWTs (OAuth 2.0 client credentials).

Its roles run side by side, each as its own ServiceAccount: "controller" (one
leader at a time), "server" and "api" (any number of replicas). "keys" moves signing
keys.`,
		Version:           version,
		SilenceUsage:      true,
		SilenceErrors:     true,
		PersistentPreRunE: func(*cobra.Command, []string) error { return errors.Join(c.setUpLogging(), c.checkNamespaces()) },
	}
	flags := root.PersistentFlags()
	flags.StringVar(&c.kubeconfig, "kubeconfig", "", "kubeconfig `file`; without it $KUBECONFIG, the cluster that this pod runs in, or ~/.kube/config")
	flags.StringVar(&c.namespace, "namespace", "m2m-system", "the operator's own `namespace`, which holds the pepper and the signing keys")
	flags.StringSliceVar(&c.namespaces, "namespaces", nil, "the `namespaces` whose M2MClients the role looks after, the same for controller and servers; without it all")
	flags.StringVar(&c.logLevel, "log-level", "info", "how much is logged: debug, info, warn or error")
	root.AddCommand(newControllerCommand(&c), newServerCommand(&c), newAPICommand(&c), newKeysCommand(&c))
	return root
}

// checkNamespaces puts the namespaces in order, each once.
func (c *common) checkNamespaces() error {
	slices.Sort(c.namespaces)
	c.namespaces = slices.Compact(c.namespaces)
	for _, namespace := range c.namespaces {
		if problems := validation.ValidateNamespaceName(namespace, false); len(problems) > 0 {
			return fmt.Errorf("--namespaces: %q is no name of a namespace: %s", namespace, strings.Join(problems, ", "))
		}
	}
	return nil
}

// setUpLogging sends all logs, of libraries too, to stderr as JSON lines.
func (c *common) setUpLogging() error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.logLevel)); err != nil {
		return fmt.Errorf("--log-level: %q is not debug, info, warn or error", c.logLevel)
	}
	handler := slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level})
	slog.SetDefault(slog.New(handler))
	klog.SetSlogLogger(slog.Default())
	ctrl.SetLogger(logr.FromSlogHandler(handler))
	return nil
}

func (c *common) restConfig() (*rest.Config, error) {
	if c.kubeconfig != "" {
		return clientcmd.BuildConfigFromFlags("", c.kubeconfig)
	}
	found, err := config.GetConfig()
	if err != nil {
		return nil, fmt.Errorf("no cluster to work on (set --kubeconfig): %w", err)
	}
	return found, nil
}
