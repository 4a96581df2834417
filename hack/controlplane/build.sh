#!/usr/bin/env bash
# Builds the control plane that go.mod pins into the folder given; with K8S_VERSION
# (such as 1.36.3, or 1.36) the one that versions/ pins. What is there and of the
# pinned version is left alone.
set -euo pipefail
out=${1:?usage: build.sh FOLDER}
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
pins="kubernetes $version, etcd $(pinned go.etcd.io/etcd/server/v3)"
programs="etcd kube-apiserver kube-controller-manager kubectl"

# The stamp is there once all programs are.
stamp=$out/.version
if [[ $(cat "$stamp" 2>/dev/null) == "$pins" ]]; then
  exit 0
fi

echo "Building the control plane ($pins) into $out."
echo "The first time takes about 8 minutes on two cores."
IFS=. read -r major minor _ <<<"${version#v}"
component=k8s.io/component-base/version
flags="-s -w -X $component.gitVersion=$version -X $component.gitMajor=$major -X $component.gitMinor=$minor"
for program in $programs; do
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
