package credential

import (
	"strings"
	"testing"
)

func TestCheckImport(t *testing.T) {
	for _, test := range []struct {
		name, id, secret string
		ok               bool
	}{
		{"random, base62", "billing", "q8Zr2LxWn5TbV0yK", true},
		{"random, hexadecimal", "billing", "8f3a1c9e7b04d26f5e81a37c92d0b64f", true},
		{"UUID", "billing", "3f2b8c1e-9d47-4a60-b5e2-71c08d94fa36", true},
		{"passphrase of four words", "billing", "correct-horse-battery-staple", true},
		{"too short", "billing", "q8Zr2LxWn5", false},
		{"short hexadecimal", "billing", "8f3a1c9e7b04d26f", false},
		{"one letter", "billing", strings.Repeat("a", 64), false},
		{"two letters", "billing", strings.Repeat("az", 64), false},
		{"in a row", "billing", "abcdefghijklmnopqrstuvwxyz0123456789", false},
		{"a word, a year", "billing", "Password2026!", false},
		{"a space", "billing", "q8Zr2LxWn5 TbV0yKq8Zr", false},
		{"a line end", "billing", "q8Zr2LxWn5TbV0yKq8Zr\n", false},
		{"not ASCII", "billing", "q8Zr2LxWn5TbV0yKq8Zr\u00e9", false},
		{"empty", "billing", "", false},
		{"too long", "billing", strings.Repeat("q8Zr2LxWn5TbV0yK", 17), false},
		{"no id", "", "q8Zr2LxWn5TbV0yKq8Zr", false},
		{"a space in the id", "bil ling", "q8Zr2LxWn5TbV0yKq8Zr", false},
	} {
		err := CheckImport(test.id, test.secret)
		if (err == nil) != test.ok {
			t.Errorf("%s: %v (%.0f bits)", test.name, err, Entropy(test.secret))
		}
		if err != nil && test.secret != "" && strings.Contains(err.Error(), test.secret) {
			t.Errorf("%s: the error repeats the secret", test.name)
		}
	}
}

func FuzzCheckImport(f *testing.F) {
	f.Add("billing", "q8Zr2LxWn5TbV0yK")
	f.Fuzz(func(t *testing.T, id, secret string) {
		err := CheckImport(id, secret)
		if err == nil && (len(secret) < 13 || Entropy(secret) < MinEntropy) {
			t.Errorf("%q is let pass", secret)
		}
	})
}
