package controllers

import (
	"strings"
	"testing"
)

var values = map[string]string{
	"client_id": "id", "client_secret": "{{ client_id }}", "token_url": "https://t", "issuer": "https://i", "jwks_url": "https://j", "scopes": "a b",
}

func TestCompose(t *testing.T) {
	for text, want := range map[string]string{
		"":                               "",
		"plain } text { }}":              "plain } text { }}",
		"{{ client_id }}":                "id",
		"{{client_id}}-{{   scopes }}":   "id-a b",
		`{"a": {"b": "{{ issuer }}"}}`:   `{"a": {"b": "https://i"}}`,
		"{{ client_secret }}":            "{{ client_id }}", // what is put in is not read again
		"{{ client_id }}{{ client_id }}": "idid",
	} {
		if got, err := compose(text, values); err != nil || got != want {
			t.Errorf("%q gives %q, %v; want %q", text, got, err, want)
		}
	}
	long := map[string]string{"scopes": strings.Repeat("x", maxComposed)}
	if _, err := compose("{{ scopes }}", long); err != nil {
		t.Errorf("a value of just the bound: %v", err)
	}
	if _, err := compose("{{ scopes }}{{ scopes }}", long); err == nil {
		t.Error("a value over the bound is no error")
	}
	for _, text := range []string{"{{", "{{ client_id", "{{ }}", "{{ password }}", "{{ client_id | json }}", "{{{ client_id }}}", "{{\nclient_id }}"} {
		if got, err := compose(text, values); err == nil {
			t.Errorf("%q gives %q; want an error", text, got)
		}
	}
}

func FuzzCompose(f *testing.F) {
	f.Add("A={{ client_id }} {{scopes}}")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := compose(text, values)
		if err == nil && !strings.Contains(text, "{{") && got != text {
			t.Errorf("%q without placeholders gives %q", text, got)
		}
		// The result is bounded by what was written: nothing repeats or nests.
		if longest := len("{{ client_id }}"); len(got) > len(text)*longest {
			t.Errorf("%d bytes became %d", len(text), len(got))
		}
	})
}
