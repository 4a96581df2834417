package main

import (
	"reflect"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

func TestManifest(t *testing.T) {
	for name, test := range map[string]struct {
		namespace string
		options   clientOptions
		want      string
	}{
		"the least": {"", clientOptions{}, `
apiVersion: m2m-operator.dev/v1alpha1
kind: M2MClient
metadata:
  name: billing
`},
		"all": {"shop", clientOptions{
			displayName: "Billing", description: "Charges cards", issuer: "eu", clientID: "billing-eu",
			scopes: []string{"read:x", "write:x"}, audiences: []string{"orders"}, lifetime: "30m", interval: "90d",
			secretName: "billing-m2m", serviceAccounts: []string{"billing"},
			metadata: []string{"tier=standard", `owner={"team": "finance"}`, "limit=12345678901234567", "on=true", "empty=", `text="1"`},
		}, `
apiVersion: m2m-operator.dev/v1alpha1
kind: M2MClient
metadata:
  name: billing
  namespace: shop
spec:
  clientID: billing-eu
  description: Charges cards
  displayName: Billing
  issuerRef:
    name: eu
  rotation:
    interval: 2160h
  scopes:
  - read:x
  - write:x
  secret:
    name: billing-m2m
  token:
    audiences:
    - orders
    lifetime: 30m
  trustedMetadata:
    empty: ""
    limit: 12345678901234567
    "on": true
    owner:
      team: finance
    text: "1"
    tier: standard
  workloadIdentities:
  - serviceAccountName: billing
`},
		"no secret": {"", clientOptions{noSecret: true}, `
apiVersion: m2m-operator.dev/v1alpha1
kind: M2MClient
metadata:
  name: billing
spec:
  secret:
    delivery: None
`},
	} {
		u, err := test.options.manifest(test.namespace, "billing")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := yaml.Marshal(u.Object)
		if err != nil || strings.TrimSpace(string(got)) != strings.TrimSpace(test.want) {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
	}
}

func TestManifestRefused(t *testing.T) {
	for says, o := range map[string]clientOptions{
		"write key=value":         {metadata: []string{"tier"}},
		`write key=value `:        {metadata: []string{"tier=a", "=b"}},
		"begins as JSON":          {metadata: []string{`owner={"team": }`}},
		"leave the key out":       {metadata: []string{"owner=null"}},
		"twice":                   {metadata: []string{"a=1", "a=2"}},
		"--lifetime soon":         {lifetime: "soon"},
		"--rotation-interval -1d": {interval: "-1d"},
		"--lifetime -30m":         {lifetime: "-30m"},
	} {
		if u, err := o.manifest("", "billing"); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(says)) {
			t.Errorf("%s: %v, %v", says, err, u)
		}
	}
}

func TestParseMetadataKeepsIntegers(t *testing.T) {
	got, err := parseMetadata([]string{"n=9007199254740993"})
	if err != nil || !reflect.DeepEqual(got, map[string]any{"n": int64(9007199254740993)}) {
		t.Errorf("%v, %v", got, err)
	}
}
