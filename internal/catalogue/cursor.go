package catalogue

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/m2m-operator/m2m-operator/internal/managementapi"
)

// maxCursor bounds a cursor in bytes.
const maxCursor = 1024

// errCursor is the one answer to all that isn't a cursor of a search.
var errCursor = errors.New("the cursor is not of this search: begin again without one")

// Seal returns the cursor of a position, for one issuer's clients and one query. mac makes
// a seal over its parts, without spaces.
func Seal(mac func(parts ...string) string, issuer string, q managementapi.Query, p Position) string {
	created := strconv.FormatInt(p.Created, 10)
	text := created + " " + p.ClientID + " " + mac(issuer, digest(q), created, p.ClientID)
	return base64.RawURLEncoding.EncodeToString([]byte(text))
}

// Open reads a cursor, if it is of the same search. check tells whether a seal was made
// over these parts. The error is for the caller.
func Open(check func(seal string, parts ...string) bool, issuer string, q managementapi.Query, cursor string) (Position, error) {
	if len(cursor) > maxCursor {
		return Position{}, errCursor
	}
	text, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil || base64.RawURLEncoding.EncodedLen(len(text)) != len(cursor) { // line ends are passed over
		return Position{}, errCursor
	}
	parts := strings.Split(string(text), " ") // ids have none
	if len(parts) != 3 || !check(parts[2], issuer, digest(q), parts[0], parts[1]) {
		return Position{}, errCursor
	}
	created, err := strconv.ParseInt(parts[0], 10, 64)
	if err != nil {
		return Position{}, errCursor
	}
	return Position{created, parts[1]}, nil
}

// digest is what a cursor is bound to of a query: the same however its values and its
// operands are ordered or repeated.
func digest(q managementapi.Query) string {
	var operands []string
	for _, o := range q.Operands {
		operands = append(operands, digestOf(append([]string{string(o.Field)}, set(o.Values)...)))
	}
	operands = set(operands)
	if q.Any && len(operands) > 1 { // of one, all hold where any does
		operands = append(operands, "any")
	}
	return digestOf(operands)
}

// set returns the texts of a list, each once, sorted.
func set(list []string) []string { return slices.Compact(slices.Sorted(slices.Values(list))) }

// digestOf tells lists of texts apart.
func digestOf(list []string) string {
	h := sha256.New()
	for _, text := range list {
		h.Write(strconv.AppendInt(nil, int64(len(text)), 10))
		h.Write([]byte(":" + text))
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}
