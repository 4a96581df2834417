package controlplane

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/keyutil"

	"github.com/m2m-operator/m2m-operator/test/process"
)

const loopback = "127.0.0.1"

// startEtcd returns the URL of etcd.
func (c *Cluster) startEtcd(ctx context.Context) (string, error) {
	address, err := FreeAddress()
	if err != nil {
		return "", err
	}
	c.etcdURL = "http://" + address
	return c.etcdURL, c.runEtcd(ctx)
}

func (c *Cluster) runEtcd(ctx context.Context) (err error) {
	c.etcd, err = c.run("etcd",
		"--data-dir="+c.path("etcd"),
		"--listen-client-urls="+c.etcdURL,
		"--advertise-client-urls="+c.etcdURL,
		"--listen-peer-urls=http://"+loopback+":0", // it has no peers
		"--unsafe-no-fsync",                        // nothing here is to be kept
		"--log-level=warn",
	)
	if err != nil {
		return err
	}
	return waitUntilOK(ctx, c.etcd, http.DefaultClient, c.etcdURL+"/health")
}

// Snapshot copies what etcd holds to a folder. Everything stands still meanwhile.
func (c *Cluster) Snapshot(ctx context.Context, to string) error {
	return c.withoutEtcd(ctx, func() error { return os.CopyFS(to, os.DirFS(c.path("etcd"))) })
}

// RestoreSnapshot puts back what etcd held then. What runs on the cluster may not believe
// it: versions of objects are smaller than they were. So kube-controller-manager is
// started anew, as Kubernetes asks for after a restore of etcd.
func (c *Cluster) RestoreSnapshot(ctx context.Context, from string) error {
	err := c.withoutEtcd(ctx, func() error {
		if err := os.RemoveAll(c.path("etcd")); err != nil {
			return err
		}
		return os.CopyFS(c.path("etcd"), os.DirFS(from))
	})
	if err != nil || c.manager == nil {
		return err
	}
	c.manager.Stop(stopGrace)
	return c.startControllerManager()
}

// Kill kills API server and etcd, and starts them again when what is done meanwhile is done.
func (c *Cluster) Kill(ctx context.Context, meanwhile func()) error {
	c.StopAPIServer()
	c.etcd.Stop(0)
	meanwhile()
	if err := c.runEtcd(ctx); err != nil {
		return err
	}
	return c.runAPIServer(ctx)
}

func (c *Cluster) withoutEtcd(ctx context.Context, do func() error) error {
	c.StopAPIServer()
	c.etcd.Stop(stopGrace)
	if err := do(); err != nil {
		return err
	}
	if err := c.runEtcd(ctx); err != nil {
		return err
	}
	return c.runAPIServer(ctx)
}

func (c *Cluster) startAPIServer(ctx context.Context, etcdURL string, o Options) error {
	key, err := keyutil.MakeEllipticPrivateKeyPEM()
	if err != nil {
		return err
	}
	if err := keyutil.WriteKey(c.serviceAccountKey(), key); err != nil {
		return err
	}
	if err := c.users.write(c.path("tokens.csv")); err != nil {
		return err
	}
	c.address = net.JoinHostPort(loopback, strconv.Itoa(o.Port))
	if o.Port == 0 {
		if c.address, err = FreeAddress(); err != nil {
			return err
		}
	}
	_, port, err := net.SplitHostPort(c.address)
	if err != nil {
		return err
	}
	c.apiServerArgs = append([]string{
		"--etcd-servers=" + etcdURL,
		"--bind-address=" + loopback,
		"--advertise-address=" + loopback,
		"--secure-port=" + port,
		"--endpoint-reconciler-type=none", // a loopback address is no endpoint
		"--cert-dir=" + c.path("serving"), // it makes its own certificate there
		"--authorization-mode=RBAC",
		"--token-auth-file=" + c.path("tokens.csv"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + c.serviceAccountKey(),
		"--service-account-signing-key-file=" + c.serviceAccountKey(),
		"--service-cluster-ip-range=10.0.0.0/24",
	}, o.APIServerArgs...)
	return c.runAPIServer(ctx)
}

func (c *Cluster) runAPIServer(ctx context.Context) error {
	server, err := c.run("kube-apiserver", c.apiServerArgs...)
	if err != nil {
		return err
	}
	c.apiServer = server
	if c.ca, err = waitForFile(ctx, server, c.path("serving/apiserver.crt")); err != nil {
		return err
	}
	client, err := rest.HTTPClientFor(c.Config())
	if err != nil {
		return err
	}
	return waitUntilOK(ctx, server, client, "https://"+c.address+"/readyz")
}

// StopAPIServer kills the API server.
func (c *Cluster) StopAPIServer() { c.apiServer.Stop(0) }

// RestartAPIServer kills the API server, unless it is stopped, and starts it again, on the
// same etcd and address. It returns when the server is ready.
func (c *Cluster) RestartAPIServer(ctx context.Context) error {
	c.StopAPIServer()
	return c.runAPIServer(ctx)
}

func (c *Cluster) startControllerManager() error {
	kubeconfig := c.path("kube-controller-manager.kubeconfig")
	if err := os.WriteFile(kubeconfig, c.kubeconfig(c.users.controllerManager), 0o600); err != nil {
		return err
	}
	manager, err := c.run("kube-controller-manager",
		"--kubeconfig="+kubeconfig,
		"--controllers=garbage-collector-controller,namespace-controller,serviceaccount-controller",
		"--service-account-private-key-file="+c.serviceAccountKey(),
		"--use-service-account-credentials", // each controller has a role of its own
		"--root-ca-file="+c.path("serving/apiserver.crt"),
		"--leader-elect=false",
		"--secure-port=0",
	)
	c.manager = manager
	return err
}

// serviceAccountKey signs the tokens of ServiceAccounts.
func (c *Cluster) serviceAccountKey() string { return c.path("service-account.key") }

// Ports below those that the kernel gives to outgoing connections: one of them could take
// the port of a server that is stopped for a moment.
const (
	firstPort = 10_000
	ports     = 20_000
)

// FreeAddress returns a loopback address that nothing listens on.
func FreeAddress() (address string, err error) {
	for range 100 {
		address = net.JoinHostPort(loopback, strconv.Itoa(firstPort+rand.IntN(ports)))
		var listener net.Listener
		if listener, err = net.Listen("tcp", address); err == nil {
			return address, listener.Close()
		}
	}
	return "", err
}

func waitUntilOK(ctx context.Context, p *process.Process, client *http.Client, url string) error {
	return p.WaitFor(ctx, func() error {
		response, err := client.Get(url)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s", url, response.Status)
		}
		return nil
	})
}

func waitForFile(ctx context.Context, p *process.Process, file string) (content []byte, err error) {
	err = p.WaitFor(ctx, func() error {
		content, err = os.ReadFile(file)
		return err
	})
	return content, err
}
