package catalogue

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/m2m-operator/m2m-operator/internal/managementapi"
)

func mac(parts ...string) string {
	h := hmac.New(sha256.New, []byte("a key of 112 bits or more"))
	for _, p := range parts {
		h.Write([]byte(p + "\x00"))
	}
	return "k1." + base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

func check(seal string, parts ...string) bool { return hmac.Equal([]byte(seal), []byte(mac(parts...))) }

var (
	somewhere = Position{Created: 1_790_000_000, ClientID: "m2m-client-test-1"}
	billing   = managementapi.Query{Operands: []managementapi.Operand{
		{Field: managementapi.FieldClientName, Values: []string{"Billing", "Bills"}},
		{Field: managementapi.FieldScopes, Values: []string{"read:x"}},
	}}
)

func TestCursorOpensForItsSearch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Position{rapid.Int64Min(0).Draw(t, "created"), rapid.StringMatching(`[A-Za-z0-9._~-]{1,256}`).Draw(t, "id")}
		q := anyQuery(t)
		cursor := Seal(mac, "default", q, p)
		if got, err := Open(check, "default", q, cursor); err != nil || got != p {
			t.Fatalf("%v, %v; want %v", got, err, p)
		}
		if len(cursor) > maxCursor {
			t.Fatalf("%d bytes", len(cursor))
		}
	})
}

// The same search can be written in several ways.
func TestCursorOfEqualQueries(t *testing.T) {
	cursor := Seal(mac, "default", billing, somewhere)
	name, scope := billing.Operands[0], billing.Operands[1]
	for _, q := range []managementapi.Query{
		{Operands: []managementapi.Operand{scope, name}},
		{Operands: []managementapi.Operand{name, scope, name}},
		{Operands: []managementapi.Operand{{Field: name.Field, Values: []string{"Bills", "Billing", "Bills"}}, scope}},
	} {
		if _, err := Open(check, "default", q, cursor); err != nil {
			t.Errorf("%v: %v", q, err)
		}
	}
	if digest(managementapi.Query{}) != digest(managementapi.Query{Any: true, Operands: []managementapi.Operand{}}) {
		t.Error("searches for all clients differ")
	}
	if name.Values[0] != "Billing" {
		t.Error("the query was changed")
	}
}

func TestCursorOfAnotherSearch(t *testing.T) {
	cursor := Seal(mac, "default", billing, somewhere)
	name, scope := billing.Operands[0], billing.Operands[1]
	for what, q := range map[string]managementapi.Query{
		"no operands":       {},
		"one operand less":  {Operands: []managementapi.Operand{name}},
		"any":               {Any: true, Operands: billing.Operands},
		"one value":         {Operands: []managementapi.Operand{{Field: name.Field, Values: []string{"BillingBills"}}, scope}},
		"a value moved":     {Operands: []managementapi.Operand{{Field: name.Field, Values: []string{"Billing"}}, {Field: scope.Field, Values: []string{"read:x", "Bills"}}}},
		"a value elsewhere": {Operands: []managementapi.Operand{{Field: name.Field, Values: []string{"Billing"}}, {Field: name.Field, Values: []string{"Bills"}}, scope}},
		"fields exchanged":  {Operands: []managementapi.Operand{{Field: scope.Field, Values: name.Values}, {Field: name.Field, Values: scope.Values}}},
	} {
		if _, err := Open(check, "default", q, cursor); !errors.Is(err, errCursor) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := Open(check, "other", billing, cursor); !errors.Is(err, errCursor) {
		t.Errorf("another issuer: %v", err)
	}
}

func TestCursorRefusesDamage(t *testing.T) {
	encode := base64.RawURLEncoding.EncodeToString
	text := func(parts ...string) string { return encode([]byte(strings.Join(parts, " "))) }
	sealed := func(created, id string) string {
		return text(created, id, mac("default", digest(billing), created, id))
	}
	whole := Seal(mac, "default", billing, somewhere)
	for what, cursor := range map[string]string{
		"empty":            "",
		"not base64":       "%%%",
		"padded":           whole + "=",
		"cut":              whole[:len(whole)-4],
		"a line end":       whole[:8] + "\n" + whole[8:],
		"line ends":        whole + "\r\n",
		"too long":         strings.Repeat("A", maxCursor+1),
		"no seal":          text("1", "a"),
		"empty seal":       text("1", "a", ""),
		"more parts":       text("1", "a", mac("default", digest(billing), "1", "a"), "more"),
		"another's seal":   text("1", "b", mac("default", digest(billing), "1", "a")),
		"another time":     text("2", "a", mac("default", digest(billing), "1", "a")),
		"no number":        sealed("now", "a"),
		"too large":        sealed("99999999999999999999", "a"),
		"binary":           encode([]byte{0xff, 0x20, 0x00, 0x20, 0xfe}),
		"the wrong key id": text("1", "a", strings.Replace(mac("default", digest(billing), "1", "a"), "k1", "k2", 1)),
	} {
		p, err := Open(check, "default", billing, cursor)
		if !errors.Is(err, errCursor) || p != (Position{}) {
			t.Errorf("%s: %v, %v", what, p, err)
		}
	}
	if _, err := Open(check, "default", billing, sealed("1", "a")); err != nil {
		t.Errorf("the whole one: %v", err)
	}
}

// What opens is what was sealed, to the byte; and with a seal that always holds, reading
// alone neither fails badly nor takes an id that no client has.
func FuzzOpen(f *testing.F) {
	f.Add(Seal(mac, "default", billing, somewhere))
	f.Add(Seal(mac, "default", billing, Position{}))
	f.Add(Seal(mac, "other", billing, somewhere))
	f.Add("MSBhIA")
	f.Add("\r\n")
	f.Fuzz(func(t *testing.T, cursor string) {
		if p, err := Open(check, "default", billing, cursor); err == nil && Seal(mac, "default", billing, p) != cursor {
			t.Errorf("%q opens at %v, and was never made", cursor, p)
		}
		p, err := Open(func(string, ...string) bool { return true }, "default", billing, cursor)
		if err == nil && (strings.Contains(p.ClientID, " ") || len(p.ClientID) > len(cursor)) {
			t.Errorf("%q opens at %v", cursor, p)
		}
	})
}
