package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

// manifestOptions are what the manifests of imported clients have in common.
type manifestOptions struct {
	namespace   string // "": none
	issuer      string // "": the default
	keepIDs     bool
	fromSecrets bool
}

// manifest is the M2MClient for a client of Stytch.
type manifest struct {
	name     string
	from     stytchClient
	text     []byte // YAML
	problems []string
}

// manifestsOf makes the manifests of clients, sorted by name. The same clients give the
// same manifests, in whatever order they come.
func manifestsOf(clients []stytchClient, o manifestOptions) []manifest {
	names := namesFor(clients)
	all := make([]manifest, 0, len(clients))
	for n, c := range clients {
		m := manifest{name: names[n], from: c}
		m.compose(o)
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b manifest) int { return cmp.Compare(a.name, b.name) })
	return all
}

// maxName is the longest name of an M2MClient.
const maxName = 63

// namesFor makes names of the clients' own: a DNS label each, and all different. Where two
// would be the same, both get a part of the digest of their client ids.
func namesFor(clients []stytchClient) []string {
	names, levels := make([]string, len(clients)), make([]int, len(clients))
	for n, c := range clients {
		names[n] = nameAt(c, 0)
	}
	for {
		count := map[string]int{}
		for _, name := range names {
			count[name]++
		}
		again := false
		for n, c := range clients {
			if count[names[n]] > 1 && levels[n] < len(digestLengths)-1 {
				levels[n]++
				names[n], again = nameAt(c, levels[n]), true
			}
		}
		if !again {
			return names
		}
	}
}

// digestLengths are how many hexadecimal digits of the digest a name has, level by level.
var digestLengths = []int{0, 8, 32}

func nameAt(c stytchClient, level int) string {
	name := dnsLabel(c.Name)
	if name == "" { // a name says nothing that Kubernetes can write
		name, level = "client", max(level, 1)
	}
	if level == 0 {
		return name
	}
	digest := sha256.Sum256([]byte(c.ID))
	suffix := "-" + hex.EncodeToString(digest[:])[:digestLengths[level]]
	return strings.TrimRight(name[:min(len(name), maxName-len(suffix))], "-") + suffix
}

// dnsLabel is what of a text can stand in a DNS label (RFC 1123); "": nothing.
func dnsLabel(text string) string {
	var b strings.Builder
	gap := false
	for _, r := range text {
		if r >= 'A' && r <= 'Z' {
			r += 'a' - 'A'
		}
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') {
			gap = true
			continue
		}
		if gap && b.Len() > 0 {
			b.WriteByte('-')
		}
		gap = false
		b.WriteRune(r)
		if b.Len() >= maxName {
			break
		}
	}
	return strings.TrimRight(b.String()[:min(b.Len(), maxName)], "-")
}

// compose writes the manifest. What an M2MClient can't have is left out and noted.
func (m *manifest) compose(o manifestOptions) {
	u := &unstructured.Unstructured{Object: map[string]any{}}
	u.SetGroupVersionKind(clientGVK)
	u.SetName(m.name)
	if o.namespace != "" {
		u.SetNamespace(o.namespace)
	}
	put(u, o.issuer, "spec", "issuerRef", "name")
	put(u, m.displayName(), "spec", "displayName")
	put(u, m.description(), "spec", "description")
	putList(u, m.scopes(), "spec", "scopes")
	if metadata := m.metadata(); len(metadata) > 0 {
		_ = unstructured.SetNestedMap(u.Object, metadata, "spec", "trustedMetadata")
	}
	put(u, m.state(), "spec", "state")
	if o.keepIDs {
		put(u, m.clientID(), "spec", "clientID")
	}
	if o.fromSecrets {
		put(u, m.secretName(), "spec", "secret", "importFrom", "name")
	}
	if _, ok := u.Object["spec"]; !ok {
		u.Object["spec"] = map[string]any{}
	}
	text, err := yaml.Marshal(u.Object)
	if err != nil { // what JSON gave, YAML can write
		m.note("it can't be written as YAML: %v", err)
	}
	id, _ := json.Marshal(clean(m.from.ID)) // without line ends, of whatever kind
	m.text = append(fmt.Appendf(nil, "# client_id at Stytch: %s\n", id), text...)
}

func (m *manifest) note(format string, args ...any) {
	m.problems = append(m.problems, fmt.Sprintf(format, args...))
}

// What the schema of M2MClients says.
const (
	maxDisplayName  = 256
	maxDescription  = 1024
	maxScopes       = 100
	maxMetadataKeys = 20
	maxMetadataSize = 4096
)

var (
	scopePattern    = regexp.MustCompile(`^[!#-\[\]-~]{1,128}$`)
	clientIDPattern = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9._~]{0,126}[A-Za-z0-9])?$`)
	controls        = regexp.MustCompile(`[\x00-\x1F\x7F-\x9F]`)
	controlsInText  = regexp.MustCompile(`[\x00-\x08\x0B\x0C\x0E-\x1F\x7F-\x9F]`)
)

func (m *manifest) displayName() string {
	name := m.from.Name
	switch {
	case utf8.RuneCountInString(name) > maxDisplayName:
		m.note("client_name has more than %d characters: left out", maxDisplayName)
	case controls.MatchString(name):
		m.note("client_name has control characters: left out")
	default:
		return name
	}
	return ""
}

func (m *manifest) description() string {
	text := m.from.Description
	switch {
	case utf8.RuneCountInString(text) > maxDescription:
		m.note("client_description has more than %d characters: left out", maxDescription)
	case controlsInText.MatchString(text):
		m.note("client_description has control characters: left out")
	default:
		return text
	}
	return ""
}

func (m *manifest) scopes() []string {
	var all []string
	for _, scope := range m.from.Scopes {
		quoted := cut(clean(scope), 60)
		switch {
		case slices.Contains(all, scope):
			continue
		case !scopePattern.MatchString(scope):
			m.note("the scope %q is not 1 to 128 printable ASCII characters without space, quote and backslash: left out", quoted)
			continue
		case len(all) == maxScopes:
			m.note("the scope %q is one more than %d: left out", quoted, maxScopes)
			continue
		case strings.Count(scope, ":") > 1:
			m.note("the scope %q has two colons, which verifiers of wildcards read differently: kept", quoted)
		}
		all = append(all, scope)
	}
	return all
}

// metadata is the trusted metadata; as a whole it is there or not.
func (m *manifest) metadata() map[string]any {
	metadata, size := map[string]any{}, len("{}")
	for _, key := range slices.Sorted(maps.Keys(m.from.Metadata)) {
		var value any
		raw := m.from.Metadata[key]
		if err := utiljson.Unmarshal(raw, &value); err != nil {
			m.note("trusted_metadata %q can't be kept as it is: left out", cut(clean(key), 60))
			continue
		}
		if value == nil {
			m.note("trusted_metadata %q is null: left out", cut(clean(key), 60))
			continue
		}
		var compact bytes.Buffer
		_ = json.Compact(&compact, raw) // it was read just now
		name, _ := json.Marshal(key)    // a text always encodes
		size += len(name) + len(":,") + compact.Len()
		metadata[key] = value
	}
	if len(metadata) > 0 {
		size-- // the last has no comma
	}
	switch {
	case len(metadata) > maxMetadataKeys:
		m.note("trusted_metadata has %d keys, more than %d: left out as a whole", len(metadata), maxMetadataKeys)
	case size > maxMetadataSize:
		m.note("trusted_metadata has more than %d bytes: left out as a whole", maxMetadataSize)
	default:
		return metadata
	}
	return nil
}

func (m *manifest) state() string {
	switch m.from.Status {
	case "active", "":
		return ""
	case "inactive":
		return string(v1alpha1.ClientInactive)
	}
	m.note("its status %q is not known: it is made inactive", cut(clean(m.from.Status), 40))
	return string(v1alpha1.ClientInactive)
}

func (m *manifest) clientID() string {
	if !clientIDPattern.MatchString(m.from.ID) {
		m.note("its client_id %q can't be chosen for an M2MClient: it gets a new one", cut(clean(m.from.ID), 80))
		return ""
	}
	return m.from.ID
}

// secretName is the Secret that the client adopts its credential from.
func (m *manifest) secretName() string { return m.name + "-stytch" }

// secretCommands make that Secret, of a file with the secret.
func (m *manifest) secretCommands(namespace string) string {
	in := ""
	if namespace != "" {
		in = " -n " + shellQuote(namespace)
	}
	return fmt.Sprintf("kubectl create secret generic%s %s --from-literal=client_id=%s --from-file=client_secret=%s.secret\n"+
		"kubectl label secret%s %s %s=%s\n", in, m.secretName(), shellQuote(m.from.ID), m.name,
		in, m.secretName(), v1alpha1.LabelAdopt, m.name)
}

var plain = regexp.MustCompile(`^[-A-Za-z0-9._~:/]+$`)

// shellQuote makes one word of a text, which a terminal doesn't obey either.
func shellQuote(text string) string {
	if plain.MatchString(text) {
		return text
	}
	return "'" + strings.ReplaceAll(clean(text), "'", `'\''`) + "'"
}
