#!/usr/bin/env bash
# Pins the control plane of another Kubernetes version beside the one of go.mod, in
# versions/MAJOR.MINOR.mod: kubernetes with its staging modules, and the etcd whose
# client it is built with. Commit what it writes.
set -euo pipefail
version=${1:?usage: pin.sh VERSION, such as 1.36.3}
version=${version#v}
cd "$(dirname "$0")"
IFS=. read -r major minor patch <<<"$version"
mod=versions/$major.$minor.mod

source=$(go mod download -json "k8s.io/kubernetes@v$version" | sed -n 's/^\t"GoMod": "\(.*\)",$/\1/p')
etcd=$(sed -n 's|^\tgo.etcd.io/etcd/client/v3 ||p' "$source")
mkdir -p versions
{
  echo "// The control plane of Kubernetes $major.$minor, pinned by hack/controlplane/pin.sh $version."
  echo "module github.com/m2m-operator/m2m-operator/hack/controlplane"
  echo
  grep -E '^(go|godebug) ' "$source"
  echo
  echo "require ("
  echo "	go.etcd.io/etcd/server/v3 $etcd"
  echo "	k8s.io/kubernetes v$version"
  echo ")"
  echo
  echo "replace ("
  sed -n "s|^\t\(k8s.io/[a-z-]*\) => ./staging/.*|\t\1 => \1 v0.$minor.$patch|p" "$source"
  echo ")"
} >"$mod"
# Its own versions of everything else, which it was tested with.
: >"${mod%.mod}.sum"
go mod tidy -modfile="$mod"
