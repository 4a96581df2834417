#!/usr/bin/env bash
# Installs what a node takes from Debian (or Ubuntu), where it is missing, and looks whether
# a node can run here. Where it can't, it says why and ends with 3.
set -euo pipefail

cannot() {
  echo "The end-to-end tests can't run here: $*" >&2
  exit 3
}

[[ $(uname -s) == Linux ]] || cannot "a node takes Linux"
[[ $(id -u) == 0 ]] || cannot "a node takes root, for namespaces, mounts and cgroups"

export PATH=$PATH:/usr/sbin:/sbin
packages=()
need() { # need PACKAGE COMMAND...
  local package=$1 command
  shift
  for command in "$@"; do
    command -v "$command" >/dev/null || { packages+=("$package"); return; }
  done
}
need containerd containerd ctr containerd-shim-runc-v2
need runc runc
need iptables iptables
need conntrack conntrack
need iproute2 ip
need util-linux unshare
[[ -e /usr/lib/cni/host-local || -e /opt/cni/bin/host-local || -e /usr/libexec/cni/host-local ]] || packages+=(containernetworking-plugins)
if ((${#packages[@]})); then
  command -v apt-get >/dev/null || cannot "install what Debian calls ${packages[*]}"
  echo "Installing ${packages[*]}"
  log=$(mktemp)
  # A daemon that the package would start is of no use here.
  { apt-get update && DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install --yes --no-install-recommends "${packages[@]}"; } >"$log" 2>&1 ||
    { tail -n 20 "$log" >&2; cannot "apt-get couldn't install ${packages[*]}"; }
  rm -f "$log"
fi

# The same as the node does, in namespaces that are gone at once.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
unshare --net --mount --pid --fork true 2>"$scratch/why" ||
  cannot "this root may not make namespaces; a container has to be privileged ($(cat "$scratch/why"))"
# shellcheck disable=SC2016 # the inner shell expands it
unshare --net --mount --pid --fork --mount-proc bash -ec '
  cd "$0"; mkdir lower upper work all
  mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work all
  ip link add e2e0 type bridge
  ip link add e2e1 type veth peer name e2e2
  echo 1 >/proc/sys/net/ipv4/ip_forward
  test -e /proc/sys/net/bridge/bridge-nf-call-iptables
  iptables -t nat -A OUTPUT -p tcp -m comment --comment e2e -m statistic --mode random --probability 0.5 -j DNAT --to 127.0.0.1:1
' "$scratch" 2>"$scratch/why" ||
  cannot "this kernel, or this container, lacks overlayfs, bridges, veth, br_netfilter or iptables ($(tail -n 1 "$scratch/why"))"
if [[ -e /sys/fs/cgroup/cgroup.controllers ]]; then
  for controller in cpu cpuset memory pids; do
    grep -qw "$controller" /sys/fs/cgroup/cgroup.controllers || cannot "the cgroup controller $controller is missing"
  done
  [[ -w /sys/fs/cgroup/cgroup.subtree_control ]] || cannot "/sys/fs/cgroup can't be written to"
else
  for controller in cpu cpuset memory pids; do
    [[ -w /sys/fs/cgroup/$controller/cgroup.procs ]] || cannot "the cgroup controller $controller is missing, or can't be written to"
  done
fi
echo "A node can run here."
