package main

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/controllers"
	"github.com/m2m-operator/m2m-operator/internal/tracing"
)

func newControllerCommand(c *common) *cobra.Command {
	o := controllers.Options{Default: controllers.DefaultIssuer{Environment: v1alpha1.EnvironmentLive}}
	environment := string(o.Default.Environment)
	var clusterDomain string
	grants := "Everything"
	var tlsNames []string
	var traces tracing.Options
	cmd := &cobra.Command{
		Use:   "controller",
		Short: "Give M2MClients their credentials and issuers their signing keys",
		Long: `The controller gives each M2MClient its credential, each ClusterM2MIssuer its
signing key, and keeps their Secrets as they should be. Of several replicas one
leads.

On the first start of all it makes the pepper, with which every credential is
checked, and the ClusterM2MIssuer "default". Back up the Secrets that it makes in
its namespace: they can't be made again.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Namespace, o.Within, o.Default.Environment = c.namespace, c.namespaces, v1alpha1.Environment(environment)
			if err := checkDefaultIssuer(o.Default); err != nil {
				return err
			}
			if grants != "Everything" && grants != "Nothing" {
				return fmt.Errorf("--default-issuer-grants: %q is not Everything or Nothing", grants)
			}
			o.Default.GrantsNothing = grants == "Nothing"
			if o.Propagation <= 0 || o.RotationRate <= 0 {
				return errors.New("--propagation-delay and --rotation-rate must be more than zero")
			}
			o.ServingNames = controllers.ServingNames(c.namespace, clusterDomain, tlsNames)
			config, err := c.restConfig()
			if err != nil {
				return err
			}
			config.UserAgent = "m2m-operator-controller/" + version
			if o.Tracer, err = startTracing("controller", traces); err != nil {
				return err
			}
			defer o.Tracer.Stop()
			config.Wrap(o.Tracer.Kubernetes)
			if err := metrics.Registry.Register(newBuildInfo()); err != nil {
				return err
			}
			mgr, err := controllers.NewManager(cmd.Context(), config, o)
			if err != nil {
				return err
			}
			return mgr.Start(cmd.Context())
		},
	}
	flags := cmd.Flags()
	addTracingFlags(flags, &traces)
	flags.StringVar(&o.Default.URL, "default-issuer-url", "", "`URL` of the ClusterM2MIssuer \"default\", made once, on the first start of all: where clients and verifiers reach the server; empty makes none")
	flags.StringVar(&environment, "default-issuer-environment", environment, "`environment` of the ClusterM2MIssuer \"default\": Live or Test")
	flags.StringVar(&grants, "default-issuer-grants", grants, "what the ClusterM2MIssuer \"default\" lets clients of all namespaces hold when it is made: Everything, or Nothing until you write its spec.`grants`")
	flags.StringVar(&o.Default.APINamespace, "default-issuer-api-namespace", "", "`namespace` of the clients that the management API makes at the ClusterM2MIssuer \"default\"; empty leaves the API closed to project secrets")
	flags.BoolVar(&o.OwnCertificates, "own-certificates", true, "make an authority and the serving certificates of servers and management API (Secrets m2m-operator-tls and m2m-operator-api-tls), but for those that others make")
	flags.StringSliceVar(&tlsNames, "tls-names", nil, "more DNS `names` of the servers' certificate, beside those of their Service")
	flags.StringVar(&clusterDomain, "cluster-domain", "cluster.local", "`domain` of the cluster's DNS")
	flags.IntVar(&o.Workers, "workers", 16, "how many M2MClients are reconciled at one time")
	flags.DurationVar(&o.Propagation, "propagation-delay", 2*time.Second, "how long a new secret is valid at the token servers before it is delivered: more than the time of a watch event")
	flags.Float64Var(&o.RotationRate, "rotation-rate", 20, "how many rotations a second begin that only spec.rotation.interval asks for")
	flags.DurationVar(&o.RestartSpacing, "restart-spacing", 10*time.Minute, "the least time between two restarts of a workload that spec.rotation.restart names")
	flags.BoolVar(&o.LeaderElection, "leader-elect", true, "let one replica lead; without it, run one replica only")
	flags.StringVar(&o.OpsAddress, "ops-bind-address", "127.0.0.1:8081", "`address` of /healthz, /readyz and /metrics; 0 serves none")
	return cmd
}

func checkDefaultIssuer(d controllers.DefaultIssuer) error {
	if d.Environment != v1alpha1.EnvironmentLive && d.Environment != v1alpha1.EnvironmentTest {
		return fmt.Errorf("--default-issuer-environment: %q is not Live or Test", d.Environment)
	}
	if d.URL == "" {
		return nil
	}
	if u, err := url.Parse(d.URL); err != nil || u.Host == "" || u.Path != "" {
		return fmt.Errorf("--default-issuer-url: %q is not a URL of scheme and host, such as https://auth.example.com", d.URL)
	}
	return nil
}
