package credential

import (
	"crypto/hmac"
	"encoding/hex"
	"strconv"
	"time"
)

// SealState is the outcome of checking a seal.
type SealState int

const (
	// SealMissing means that there is no seal.
	SealMissing SealState = iota
	// SealValid means that the controller made this seal over these values.
	SealValid
	// SealBroken means that the sealed values or the seal were changed.
	SealBroken
	// SealUnknownKey means that the seal names a pepper key that isn't there, so
	// nothing can be said of the values.
	SealUnknownKey
)

// Triggers are the texts that ask for a rotation on demand: of the manifest, and of
// an annotation.
type Triggers struct{ Spec, Annotation string }

// Record is what a client's status says of its credential: the journal of validity.
// Times have a resolution of one second.
type Record struct {
	ClientID string
	// Since is when the client got its id, where it wasn't made for it; zero: it was.
	Since       time.Time
	Credentials []Credential
	LastNumber  int       // the highest number that a version ever had
	RotatedAt   time.Time // when the current version replaced another; zero: it is the first
	CancelledAt time.Time // when a staged rotation was cancelled last
	Triggers    Triggers  // that need no rotation any more
	NotBefore   time.Time // tokens that were issued before are cut off; zero: none are
	Sequence    int64     // of the deposit that the credentials come from; 0: of none
	Seal        string
}

// Current returns the version that the Secret should deliver.
func (r Record) Current() (Credential, bool) { return r.with(RoleCurrent) }

// Next returns the version that will replace the current one.
func (r Record) Next() (Credential, bool) { return r.with(RoleNext) }

func (r Record) with(role Role) (Credential, bool) {
	for _, c := range r.Credentials {
		if c.Role == role {
			return c, true
		}
	}
	return Credential{}, false
}

// SealRecord seals a client's record, bound to the object's UID: a status copied
// from another client, or from an earlier one of the same name, fails.
func (p *Pepper) SealRecord(uid string, r Record) string {
	return p.active.sealRecord(uid, r)
}

// CheckRecord checks a record's seal.
func (p *Pepper) CheckRecord(uid string, r Record) SealState {
	return p.check(r.Seal, func(k *pepperKey) string { return k.sealRecord(uid, r) })
}

func (k *pepperKey) sealRecord(uid string, r Record) string {
	fields := make([]string, 0, 8+6*len(r.Credentials))
	fields = append(fields, uid, r.ClientID, strconv.Itoa(r.LastNumber), unix(r.RotatedAt), unix(r.CancelledAt), r.Triggers.Spec, r.Triggers.Annotation)
	for _, c := range r.Credentials {
		fields = append(fields, c.Version.String(), string(c.Role), c.Hash.String(), unix(c.CreatedAt), unix(c.RetireAfter), unix(c.NotAfter))
	}
	// One field more, or two, than any record without them has.
	if !r.Since.IsZero() {
		fields = append(fields, "since", unix(r.Since))
	}
	if !r.NotBefore.IsZero() {
		fields = append(fields, unix(r.NotBefore))
	}
	if r.Sequence != 0 {
		fields = append(fields, "sequence", strconv.FormatInt(r.Sequence, 10))
	}
	return Hash{KeyID: k.id, Sum: mac(k.statusKey, fields...)}.String()
}

// SecretIdentity is what a Secret's seal binds a secret to.
type SecretIdentity struct {
	UID       string // of the M2MClient
	Namespace string
	Name      string // of the Secret
	ClientID  string
	Version   Version
	Next      bool // it is delivered beside the current one, by a staged rotation
}

// SealSecret seals a secret that is delivered in a Kubernetes Secret.
func (p *Pepper) SealSecret(id SecretIdentity, secret string) string {
	return p.active.sealSecret(id, secret)
}

// CheckSecret checks the seal of a delivered secret.
func (p *Pepper) CheckSecret(id SecretIdentity, secret, seal string) SealState {
	return p.check(seal, func(k *pepperKey) string { return k.sealSecret(id, secret) })
}

func (k *pepperKey) sealSecret(id SecretIdentity, secret string) string {
	fields := []string{id.UID, id.Namespace, id.Name, id.ClientID, id.Version.String(), secret}
	if id.Next {
		fields = append(fields, string(RoleNext))
	}
	sum := mac(k.secretSeal, fields...)
	return Hash{KeyID: k.id, Sum: sum}.String()
}

// SealCursor seals a cursor of the management API's search.
func (p *Pepper) SealCursor(parts ...string) string { return p.active.sealCursor(parts) }

// CheckCursor tells whether a cursor's seal holds.
func (p *Pepper) CheckCursor(seal string, parts ...string) bool {
	return p.check(seal, func(k *pepperKey) string { return k.sealCursor(parts) }) == SealValid
}

func (k *pepperKey) sealCursor(parts []string) string {
	return Hash{KeyID: k.id, Sum: mac(k.cursorKey, parts...)}.String()
}

// SealPeer seals what one role of the operator tells another about a request that it
// passes on.
func (p *Pepper) SealPeer(parts ...string) string { return p.active.sealPeer(parts) }

// CheckPeer tells whether another role of the operator made a seal.
func (p *Pepper) CheckPeer(seal string, parts ...string) bool {
	return p.check(seal, func(k *pepperKey) string { return k.sealPeer(parts) }) == SealValid
}

func (k *pepperKey) sealPeer(parts []string) string {
	return Hash{KeyID: k.id, Sum: mac(k.peerKey, parts...)}.String()
}

// LogID is what a log has in place of a client id that is nobody's, because it may be a
// secret that was sent in its place: the same for the same text at each replica, and
// nothing that a guess could be checked with. An id of the form that the operator makes
// is none. Without a pepper there is nothing to tell.
func (p *Pepper) LogID(id string) string {
	switch {
	case IsClientID(id):
		return id
	case p == nil:
		return "(unknown)"
	}
	sum := mac(p.active.logKey, id)
	return "(unknown: " + hex.EncodeToString(sum[:8]) + ")"
}

// TicketKey returns the key of the TLS session tickets of a day, which all replicas share:
// a session that began at one goes on at another (RFC 8446 section 4.6.1).
func (p *Pepper) TicketKey(day int64) [32]byte {
	return mac(p.active.ticketKey, strconv.FormatInt(day, 10))
}

func (p *Pepper) check(seal string, expected func(*pepperKey) string) SealState {
	if seal == "" {
		return SealMissing
	}
	parsed, err := ParseHash(seal)
	if err != nil {
		return SealBroken
	}
	k := p.key(parsed.KeyID)
	if k == nil {
		return SealUnknownKey
	}
	if !hmac.Equal([]byte(seal), []byte(expected(k))) {
		return SealBroken
	}
	return SealValid
}

// unix is the resolution in which Kubernetes keeps times.
func unix(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return strconv.FormatInt(t.Unix(), 10)
}
