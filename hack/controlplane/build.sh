#!/usr/bin/env bash
# Builds the control plane that go.mod pins into the folder given; with K8S_VERSION
# (such as 1.36.3, or 1.36) the one that versions/ pins. With "node" it builds what runs
# on a node of the same version, too. What is there and of the pinned version is left alone.
set -euo pipefail
out=${1:?usage: build.sh FOLDER [node]}
node=${2:-}
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$(dirname "$0")"

pinned() { go list -m -f '{{.Version}}' "$1"; }

version=$(pinned k8s.io/kubernetes)
if [[ -n ${K8S_VERSION:-} && v$K8S_VERSION != "$version" && $version != "v$K8S_VERSION".* ]]; then
  IFS=. read -r major minor _ <<<"${K8S_VERSION#v}"
  export GOFLAGS="${GOFLAGS:-} -modfile=versions/$major.$minor.mod"
  version=$(pinned k8s.io/kubernetes 2>/dev/null) || version=none
  if [[ $version != "v$K8S_VERSION" && $version != "v$K8S_VERSION".* ]]; then
    echo "Kubernetes $K8S_VERSION isn't pinned ($major.$minor: $version). Pin it first: hack/controlplane/pin.sh $K8S_VERSION" >&2
    exit 1
  fi
fi
IFS=. read -r major minor _ <<<"${version#v}"
component=k8s.io/component-base/version
flags="-s -w -X $component.gitVersion=$version -X $component.gitMajor=$major -X $component.gitMinor=$minor"

# build STAMP PINS WHAT PROGRAM... builds programs; the stamp is there once all of them are.
build() {
  local stamp=$out/$1 pins=$2 what=$3 program package started
  shift 3
  if [[ $(cat "$stamp" 2>/dev/null) == "$pins" ]]; then
    return
  fi
  echo "Building $what ($pins) into $out."
  for program in "$@"; do
    package=k8s.io/kubernetes/cmd/$program
    if [[ $program == etcd ]]; then
      package=go.etcd.io/etcd/server/v3
    fi
    started=$SECONDS
    printf '  %-24s' "$program"
    CGO_ENABLED=0 go build -trimpath -ldflags "$flags" -o "$out/.$program.part" "$package"
    mv "$out/.$program.part" "$out/$program"
    printf '%4d s\n' $((SECONDS - started))
  done
  echo "$pins" >"$stamp"
}

build .version "kubernetes $version, etcd $(pinned go.etcd.io/etcd/server/v3)" \
  "the control plane, about 8 minutes on two cores the first time," \
  etcd kube-apiserver kube-controller-manager kubectl
if [[ $node == node ]]; then
  build .version-node "kubernetes $version" "the programs of a node, about 2 minutes," kubelet kube-proxy kube-scheduler
fi
