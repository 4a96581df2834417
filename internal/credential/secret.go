package credential

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// MaxVersions bounds the versions of a secret that are valid at one time.
const MaxVersions = 8

// Role is what a version of a secret is to its client.
type Role string

const (
	// RoleCurrent is the version that the Secret delivers.
	RoleCurrent Role = "Current"
	// RoleNext is a version that will replace the current one, and is valid already.
	RoleNext Role = "Next"
	// RolePrevious is a replaced version, valid until its NotAfter at the latest.
	RolePrevious Role = "Previous"
)

// Credential is one version of a client's secret, as its status records it.
// Times have a resolution of one second, the one Kubernetes stores.
type Credential struct {
	Version   Version
	Role      Role
	Hash      Hash
	CreatedAt time.Time
	// RetireAfter is when the overlap of a replaced version ends, from when on it goes
	// as soon as it is unused; zero: it ends at NotAfter, used or not.
	RetireAfter time.Time
	NotAfter    time.Time // zero: no end
}

// Live tells whether the credential authenticates at an instant.
func (c Credential) Live(now time.Time) bool {
	return c.NotAfter.IsZero() || now.Before(c.NotAfter)
}

// Version names a version of a client's secret: a number that only grows, and
// the secret's last four characters, by which people recognise it.
type Version struct {
	Number   int
	LastFour string
}

// String gives `3-x8Fa`.
func (v Version) String() string { return strconv.Itoa(v.Number) + "-" + v.LastFour }

// maxNumber bounds the numbers of versions.
const maxNumber = 999_999_999

// ParseVersion reads what [Version.String] wrote.
func ParseVersion(s string) (Version, error) {
	number, lastFour, ok := strings.Cut(s, "-")
	n, err := strconv.Atoi(number)
	if !ok || err != nil || n < 1 || n > maxNumber || strconv.Itoa(n) != number || len(lastFour) > 4 {
		return Version{}, errors.New("not a version of the form <number>-<last four characters>")
	}
	return Version{Number: n, LastFour: lastFour}, nil
}

// minLengthForLastFour keeps short imported secrets from losing a quarter of
// themselves to the status.
const minLengthForLastFour = 16

func versionOf(number int, secret string) Version {
	v := Version{Number: number}
	if len(secret) >= minLengthForLastFour {
		v.LastFour = secret[len(secret)-4:]
	}
	return v
}

// Letters and digits only: a secret survives shells, .env files, URLs and a
// double click.
const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// secretLength gives just over 256 bits: 43 * log2(62) = 256.03.
const secretLength = 43

// newSecret makes a client secret of 256 random bits.
func newSecret(rand io.Reader) (string, error) {
	// Bytes from 248 on are dropped: 248 is the largest multiple of 62 in a byte.
	const fair = 248
	secret := make([]byte, 0, secretLength)
	buf := make([]byte, secretLength)
	for len(secret) < secretLength {
		if _, err := io.ReadFull(rand, buf); err != nil {
			return "", fmt.Errorf("reading random bytes for a client secret: %w", err)
		}
		for _, b := range buf {
			if b < fair && len(secret) < secretLength {
				secret = append(secret, alphabet[b%62])
			}
		}
	}
	return string(secret), nil
}

var (
	clientIDForm  = regexp.MustCompile(`^m2m-client-(test|live)-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	projectIDForm = regexp.MustCompile(`^project-(test|live)-`)
)

// IsClientID tells whether an id has the form of those that [NewClientID] makes.
func IsClientID(id string) bool { return clientIDForm.MatchString(id) }

// IsProjectID tells whether an id has the form of a project's: audiences have it, too.
func IsProjectID(id string) bool { return projectIDForm.MatchString(id) }

// NewClientID makes `m2m-client-<test|live>-<random UUID>`; ids are never used again.
func NewClientID(rand io.Reader, live bool) (string, error) {
	uuid, err := NewUUID(rand)
	if err != nil {
		return "", err
	}
	if live {
		return "m2m-client-live-" + uuid, nil
	}
	return "m2m-client-test-" + uuid, nil
}

// NewUUID makes a random UUID (RFC 9562, version 4).
func NewUUID(rand io.Reader) (string, error) {
	var u [16]byte
	if _, err := io.ReadFull(rand, u[:]); err != nil {
		return "", fmt.Errorf("reading random bytes for a UUID: %w", err)
	}
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	s := hex.EncodeToString(u[:])
	return strings.Join([]string{s[:8], s[8:12], s[12:16], s[16:20], s[20:]}, "-"), nil
}
