package jws

import (
	"errors"
	"math"
	"strconv"
)

// Claims are the registered claims of a token (RFC 7519 section 4.1, RFC 9068 section
// 2.2). Of those that are missing texts are empty, and times nil.
type Claims struct {
	Issuer   string
	Subject  string
	ID       string
	Audience []string // a single one comes as a text or as an array
	Scope    string
	// Unix times in seconds. Fractions are cut off so that the token is not valid longer.
	ExpiresAt, NotBefore, IssuedAt *int64
}

// maxAudiences bounds `aud`.
const maxAudiences = 64

func (c *Claims) parse(payload []byte) error {
	err := members(payload, func(name string, value []byte) (err error) {
		switch name {
		case "iss":
			c.Issuer, err = unquote(value)
		case "sub":
			c.Subject, err = unquote(value)
		case "jti":
			c.ID, err = unquote(value)
		case "scope":
			c.Scope, err = unquote(value)
		case "aud":
			c.Audience, err = audiences(value)
		case "exp":
			c.ExpiresAt, err = numericDate(value, math.Floor)
		case "nbf":
			c.NotBefore, err = numericDate(value, math.Ceil)
		case "iat":
			c.IssuedAt, err = numericDate(value, math.Floor)
		}
		return err
	})
	if err != nil {
		return errClaims
	}
	return nil
}

func audiences(value []byte) ([]string, error) {
	if value[0] == '"' {
		one, err := unquote(value)
		return []string{one}, err
	}
	var all []string
	err := elements(value, func(value []byte) error {
		one, err := unquote(value)
		if all = append(all, one); len(all) > maxAudiences {
			return errors.New("too many audiences")
		}
		return err
	})
	return all, err
}

// numericDate reads a time (RFC 7519 section 2) of the years 1970 to 9999.
func numericDate(value []byte, round func(float64) float64) (*int64, error) {
	const latest = 253402300799
	seconds, err := strconv.ParseFloat(string(value), 64)
	if err != nil || seconds < 0 || seconds > latest {
		return nil, errors.New("not a time")
	}
	whole := int64(round(seconds))
	return &whole, nil
}
