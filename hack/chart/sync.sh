#!/usr/bin/env bash
# Copies into the chart what it ships as it is in config: the kinds, the roles, the
# policies and what Prometheus and Grafana need. The rest of the chart is templates, which a test compares with config/default.
set -euo pipefail
cd "$(dirname "$0")/../.."
files=charts/m2m-operator/files

copy() { # to from...
  local to=$files/$1
  shift
  mkdir -p "$to"
  cp "$@" "$to/"
}

rm -rf "$files"
copy crd config/crd/bases/*.yaml
for role in controller server api; do
  copy "$role" "config/rbac/$role/"{service_account,role,role_binding}.yaml
done
copy controller config/rbac/controller/secrets_policy.yaml
copy server config/rbac/server/status_policy.yaml
copy api config/rbac/api/clients_policy.yaml
copy api config/rbac/api/namespace.yaml
copy users config/rbac/users/{edit,view}.yaml
copy protection config/protection/policy.yaml
copy restart config/restart/{role,role_binding}.yaml
copy token-review config/token-review/{role,role_binding}.yaml
copy limit config/namespaced/limit/{controller,server}.yaml
copy limit-api config/namespaced/limit-api/role.yaml
copy bindings config/namespaced/bindings/role_bindings.yaml
copy bindings-api config/namespaced/bindings-api/role_binding.yaml
copy bindings-restart config/namespaced/bindings-restart/role.yaml
copy monitoring config/prometheus/{service.yaml,service_monitor.yaml,rules.yaml,dashboard.json}
