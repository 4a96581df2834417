package credential

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"
)

// MinEntropy is what a secret that was made elsewhere must have, in bits, as
// [Entropy] estimates it.
const MinEntropy = 80

// maxImported bounds an imported secret, in bytes.
const maxImported = 256

// EntropyRule says how [Entropy] estimates, for those whose secret it refuses.
const EntropyRule = "a character counts log2 of the alphabet that the secret draws from " +
	"(16 for lower case hexadecimal, else 10 digits, 26 small and 26 capital letters, 33 others, as they occur); " +
	"one that repeats or continues the one before it (aa, ab, 21) and all beyond the third of a kind count nothing"

// Entropy estimates the entropy of a secret that was made elsewhere, in bits. It
// knows no dictionary: it catches what is short, repeated or typed in a row.
func Entropy(secret string) float64 {
	seen := map[rune]int{}
	counted := 0
	previous := rune(-2)
	for _, c := range secret {
		seen[c]++
		if step := c - previous; (step < -1 || step > 1) && seen[c] <= 3 {
			counted++
		}
		previous = c
	}
	return float64(counted) * math.Log2(float64(alphabetSize(secret)))
}

// alphabetSize is the number of characters that a secret seems to be drawn from.
func alphabetSize(secret string) int {
	if strings.Trim(secret, "0123456789abcdef") == "" {
		return 16
	}
	const digits, small, capital = "0123456789", "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	size := 0
	for _, class := range []string{digits, small, capital} {
		if strings.ContainsAny(secret, class) {
			size += len(class)
		}
	}
	if strings.Trim(secret, digits+small+capital) != "" {
		size += 33
	}
	return max(size, 1)
}

// importable is what spec.clientID of an M2MClient takes.
var importable = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9._~]{0,126}[A-Za-z0-9])?$`)

// CheckImport tells why an id and a secret that were made elsewhere can't be a
// credential; nil: they can. It never repeats the secret.
func CheckImport(clientID, secret string) error {
	switch {
	case !importable.MatchString(clientID):
		return errors.New("the client id must be 1 to 128 letters, digits, '-', '.', '_' and '~', starting and ending with a letter or digit, as in spec.clientID")
	case IsProjectID(clientID):
		return errors.New("the client id has the form of a project's id, which no client may have")
	case secret == "" || len(secret) > maxImported || !visible(secret):
		return fmt.Errorf("the client secret must be 1 to %d printable ASCII characters without spaces", maxImported)
	}
	if bits := Entropy(secret); bits < MinEntropy {
		return fmt.Errorf("the client secret has an estimated entropy of %.0f bits, under %d, and could be guessed: %s; replace it at its source, or leave importFrom out", math.Floor(bits), MinEntropy, EntropyRule)
	}
	return nil
}

func visible(s string) bool {
	return strings.IndexFunc(s, func(c rune) bool { return c <= ' ' || c > '~' }) < 0
}
