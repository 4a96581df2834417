//go:build linux

package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"k8s.io/client-go/kubernetes"

	"github.com/m2m-operator/m2m-operator/test/controlplane"
)

// startControlPlane starts etcd and an API server that knows nodes, and that pods reach.
func (n *Node) startControlPlane(ctx context.Context) (err error) {
	if n.assets, err = findAssets(); err != nil {
		return err
	}
	if n.authority, err = newAuthority(); err != nil {
		return err
	}
	dir := n.path("controlplane")
	args, err := n.apiServerArgs(dir)
	if err != nil {
		return err
	}
	n.Cluster, err = controlplane.Start(ctx, controlplane.Options{Dir: dir, Port: serverPort, APIServerArgs: args})
	if err != nil {
		return err
	}
	n.server = "https://" + net.JoinHostPort(Address, strconv.Itoa(serverPort))
	if n.clients, err = kubernetes.NewForConfig(n.Cluster.Config()); err != nil {
		return err
	}
	n.WithWatch, err = n.Cluster.Client()
	return err
}

func (n *Node) apiServerArgs(dir string) ([]string, error) {
	serving := filepath.Join(dir, "serving")
	if err := os.MkdirAll(serving, 0o700); err != nil {
		return nil, err
	}
	// Where there is a certificate, the API server makes none. Who trusts the file trusts
	// the authority.
	names := []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + domain}
	certificate, key, err := n.authority.server(names, "127.0.0.1", Address, ServiceAddress)
	if err != nil {
		return nil, err
	}
	certificate = append(certificate, n.authority.pem()...)
	if err := writePair(filepath.Join(serving, "apiserver.crt"), filepath.Join(serving, "apiserver.key"), certificate, key); err != nil {
		return nil, err
	}
	authority, err := n.write("authority.crt", string(n.authority.pem()))
	if err != nil {
		return nil, err
	}
	certificate, key, err = n.authority.user("kube-apiserver", "system:masters")
	if err != nil {
		return nil, err
	}
	kubeletCertificate, kubeletKey := n.path("apiserver-kubelet.crt"), n.path("apiserver-kubelet.key")
	return []string{
		"--bind-address=0.0.0.0", // of a namespace that nobody else reaches
		"--advertise-address=" + Address,
		"--endpoint-reconciler-type=lease",
		"--authorization-mode=Node",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		"--client-ca-file=" + authority,
		"--kubelet-client-certificate=" + kubeletCertificate,
		"--kubelet-client-key=" + kubeletKey,
		"--kubelet-preferred-address-types=InternalIP",
	}, writePair(kubeletCertificate, kubeletKey, certificate, key)
}

const containerdSocket = "/run/containerd/containerd.sock"

func (n *Node) startContainerd(ctx context.Context) error {
	plugins, err := findPlugins()
	if err != nil {
		return err
	}
	network := n.path("cni")
	if err := errors.Join(os.MkdirAll(network, 0o700), os.MkdirAll(filepath.Dir(containerdSocket), 0o700)); err != nil {
		return err
	}
	if _, err := n.write("cni/pods.conflist", fmt.Sprintf(networkConfig, bridge, podRange)); err != nil {
		return err
	}
	config, err := n.write("containerd.toml", fmt.Sprintf(containerdConfig, containerdSocket, PauseImage, plugins, network))
	if err != nil {
		return err
	}
	containerd, err := exec.LookPath("containerd")
	if err != nil {
		return err
	}
	p, err := n.run("containerd", containerd, "--config", config)
	if err != nil {
		return err
	}
	return p.WaitFor(ctx, func() error {
		out, err := exec.CommandContext(ctx, "ctr", "--address", containerdSocket, "version").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// Programs that may lower what makes the kernel end them first are rarer than root.
const containerdConfig = `version = 2
[grpc]
  address = %q
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = %q
  conf_dir = %q
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
`

const networkConfig = `{
  "cniVersion": "0.4.0",
  "name": "pods",
  "plugins": [{
    "type": "bridge",
    "bridge": %q,
    "isGateway": true,
    "hairpinMode": true,
    "ipam": {
      "type": "host-local",
      "ranges": [[{"subnet": %q}]],
      "routes": [{"dst": "0.0.0.0/0"}]
    }
  }]
}
`

// startPrograms starts what schedules, runs and connects pods; the kubelet comes last.
func (n *Node) startPrograms(context.Context) error {
	serviceAccountKey := n.path("controlplane/service-account.key")
	return errors.Join(
		n.startAs("kube-controller-manager", "system:kube-controller-manager", nil,
			"--service-account-private-key-file="+serviceAccountKey,
			"--root-ca-file="+n.path("authority.crt"),
			"--use-service-account-credentials",
			"--leader-elect=false",
			"--secure-port=0",
		),
		n.startAs("kube-scheduler", "system:kube-scheduler", nil, "--leader-elect=false", "--secure-port=0"),
		n.startProxy(),
		n.startKubelet(),
	)
}

// startAs starts a program of Kubernetes as a user.
func (n *Node) startAs(program, user string, groups []string, args ...string) error {
	kubeconfig := n.path(program + ".kubeconfig")
	if err := n.authority.kubeconfig(kubeconfig, n.server, user, groups...); err != nil {
		return err
	}
	_, err := n.run(program, filepath.Join(n.assets, program), append([]string{"--kubeconfig=" + kubeconfig}, args...)...)
	return err
}

func (n *Node) startProxy() error {
	kubeconfig := n.path("kube-proxy.kubeconfig")
	if err := n.authority.kubeconfig(kubeconfig, n.server, "system:kube-proxy"); err != nil {
		return err
	}
	config, err := n.write("kube-proxy.yaml", fmt.Sprintf(proxyConfig, kubeconfig, Name, podRange))
	if err != nil {
		return err
	}
	_, err = n.run("kube-proxy", filepath.Join(n.assets, "kube-proxy"), "--config="+config)
	return err
}

// What it says of connection tracking is the machine's, and stays.
const proxyConfig = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection:
  kubeconfig: %q
hostnameOverride: %q
mode: iptables
clusterCIDR: %q
conntrack:
  maxPerCore: 0
  min: 0
  tcpEstablishedTimeout: 0s
  tcpCloseWaitTimeout: 0s
`

func (n *Node) startKubelet() error {
	resolvConf, err := n.write("resolv.conf", "")
	if err != nil {
		return err
	}
	config, err := n.write("kubelet.yaml", fmt.Sprintf(kubeletConfig,
		containerdSocket, n.path("authority.crt"), "/"+cgroupName(n.Dir), Address, domain, resolvConf))
	if err != nil {
		return err
	}
	return n.startAs("kubelet", "system:node:"+Name, []string{"system:nodes"},
		"--config="+config,
		"--hostname-override="+Name,
		"--node-ip="+Address,
		"--cert-dir="+n.path("kubelet"),
	)
}

// The kubelet looks at a pod's volumes again each syncFrequency, here sooner than the
// minute that is usual. Full disks, swap and old cgroups are not what is tested.
const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://%s
authentication:
  anonymous: {enabled: false}
  x509: {clientCAFile: %q}
cgroupDriver: cgroupfs
cgroupRoot: %q
failCgroupV1: false
failSwapOn: false
enforceNodeAllocatable: []
clusterDNS: [%q]
clusterDomain: %q
resolvConf: %q
syncFrequency: 10s
imageGCHighThresholdPercent: 100
evictionHard:
  memory.available: 50Mi
  nodefs.available: 1%%
  nodefs.inodesFree: 1%%
  imagefs.available: 1%%
`

// findAssets is the folder with the programs of Kubernetes.
func findAssets() (string, error) {
	assets := os.Getenv("KUBEBUILDER_ASSETS")
	if assets == "" {
		root, err := controlplane.RepositoryRoot()
		if err != nil {
			return "", err
		}
		assets = filepath.Join(root, "bin", "k8s")
	}
	for _, program := range []string{"kubelet", "kube-proxy", "kube-scheduler", "kube-controller-manager"} {
		if _, err := os.Stat(filepath.Join(assets, program)); err != nil {
			return "", fmt.Errorf("%s has no %s: run `hack/controlplane/build.sh %s node`", assets, program, assets)
		}
	}
	return filepath.Abs(assets)
}

// findPlugins is the folder with the CNI plugins, which each distribution has elsewhere.
func findPlugins() (string, error) {
	folders := []string{"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"}
	for _, folder := range folders {
		if _, err := os.Stat(filepath.Join(folder, "host-local")); err == nil {
			return folder, nil
		}
	}
	return "", fmt.Errorf("there are no CNI plugins in %s: install containernetworking-plugins", strings.Join(folders, ", "))
}
