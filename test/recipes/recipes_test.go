// Package recipes checks the configurations in docs/recipes.md against the APIs of the
// programs that they are for: each field exists, and holds what it may hold.
package recipes

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	jwtauthnv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/jwt_authn/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3" // to be found by its name
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3" // to be found by its name
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	securityv1 "istio.io/api/security/v1"
	"sigs.k8s.io/yaml"
)

// documents are the YAML documents of a section of the recipes.
func documents(t *testing.T, section string) []string {
	t.Helper()
	text, err := os.ReadFile("../../docs/recipes.md")
	if err != nil {
		t.Fatal(err)
	}
	_, part, found := strings.Cut(string(text), "\n## "+section+"\n")
	if !found {
		t.Fatalf("docs/recipes.md has no section %s", section)
	}
	part, _, _ = strings.Cut(part, "\n## ")
	var all []string
	for {
		_, rest, found := strings.Cut(part, "```yaml\n")
		if !found {
			return all
		}
		var block string
		block, part, _ = strings.Cut(rest, "```")
		all = append(all, strings.Split(block, "\n---\n")...)
	}
}

// read decodes a value strictly: a field that the message doesn't have is a mistake.
func read(t *testing.T, value any, into proto.Message) {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	if err := protojson.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

func TestIstio(t *testing.T) {
	authentication, authorization := &securityv1.RequestAuthentication{}, &securityv1.AuthorizationPolicy{}
	kinds := map[string]proto.Message{"RequestAuthentication": authentication, "AuthorizationPolicy": authorization}
	for _, document := range documents(t, "Istio") {
		var manifest struct {
			APIVersion, Kind string
			Spec             map[string]any
		}
		if err := yaml.Unmarshal([]byte(document), &manifest); err != nil {
			t.Fatal(err)
		}
		into := kinds[manifest.Kind]
		if into == nil || manifest.APIVersion != "security.istio.io/v1" {
			t.Fatalf("%s %s is no kind of Istio's", manifest.APIVersion, manifest.Kind)
		}
		read(t, manifest.Spec, into)
	}
	if len(authentication.JwtRules) != 1 || len(authorization.Rules) != 1 {
		t.Fatal("a rule is missing")
	}
	rule := authentication.JwtRules[0]
	if len(rule.Audiences) == 0 || !strings.HasPrefix(rule.JwksUri, rule.Issuer+"/") {
		t.Errorf("the issuer or the audience isn't checked: %v", rule)
	}
	if from := authorization.Rules[0].From[0].Source.RequestPrincipals; from[0] != rule.Issuer+"/*" {
		t.Errorf("a request without a token of %s passes: %v", rule.Issuer, from)
	}
	if !proto.Equal(authentication.Selector, authorization.Selector) {
		t.Error("the two are for different pods")
	}
}

// validator is what messages of Envoy's API have.
type validator interface{ ValidateAll() error }

// validate applies the constraints of Envoy's API.
func validate(t *testing.T, packed *anypb.Any) proto.Message {
	t.Helper()
	message, err := packed.UnmarshalNew()
	if err != nil {
		t.Fatal(err)
	}
	if err := message.(validator).ValidateAll(); err != nil {
		t.Errorf("%s: %v", packed.TypeUrl, err)
	}
	return message
}

func TestEnvoy(t *testing.T) {
	var config struct {
		Filters  []map[string]any `json:"http_filters"`
		Clusters []map[string]any `json:"clusters"`
	}
	if err := yaml.Unmarshal([]byte(documents(t, "Envoy")[0]), &config); err != nil {
		t.Fatal(err)
	}
	cluster := &clusterv3.Cluster{}
	read(t, config.Clusters[0], cluster)
	if err := cluster.ValidateAll(); err != nil {
		t.Error(err)
	}
	validate(t, cluster.TransportSocket.GetTypedConfig())

	var filters []proto.Message
	for _, value := range config.Filters {
		filter := &hcmv3.HttpFilter{}
		read(t, value, filter)
		if err := filter.ValidateAll(); err != nil {
			t.Error(err)
		}
		filters = append(filters, validate(t, filter.GetTypedConfig()))
	}
	authentication, authorization := filters[0].(*jwtauthnv3.JwtAuthentication), filters[1].(*rbacv3.RBAC)
	name := authentication.Rules[0].GetRequires().GetProviderName()
	provider := authentication.Providers[name]
	if provider == nil || provider.Issuer == "" || len(provider.Audiences) == 0 {
		t.Fatalf("the issuer or the audience isn't checked: %v", provider)
	}
	if keys := provider.GetRemoteJwks().GetHttpUri(); keys.GetCluster() != cluster.Name || !strings.HasPrefix(keys.Uri, provider.Issuer+"/") {
		t.Errorf("the keys are fetched from %s of %s", keys.Uri, keys.GetCluster())
	}
	match := authorization.Rules.Policies["read-orders"].Principals[0].GetSourcedMetadata().GetMetadataMatcher()
	if match.Filter != config.Filters[0]["name"] || match.Path[0].GetKey() != provider.PayloadInMetadata ||
		match.Path[1].GetKey() != provider.NormalizePayloadInMetadata.SpaceDelimitedClaims[0] {
		t.Errorf("the scopes are looked for where they aren't: %v", match)
	}
}
