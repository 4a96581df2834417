package token

import (
	"errors"
	"slices"
	"time"

	"github.com/m2m-operator/m2m-operator/internal/assertion"
	"github.com/m2m-operator/m2m-operator/internal/jws"
)

// jwtBearer is the one type of client assertions (RFC 7523 section 2.2).
const jwtBearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// Authenticate tells who a request is from. A refusal is an [*Error].
func (a *Authority) Authenticate(now time.Time, issuer *Issuer, r *Request) (Grant, error) {
	if err := r.check(); err != nil {
		return Grant{}, err
	}
	if !issuer.Available() {
		return Grant{}, errNoKey
	}
	freshness := a.directory.Freshness(now)
	if freshness == Expired {
		return Grant{}, errExpired
	}
	authenticate := a.bySecret
	if r.Assertion != "" {
		authenticate = a.byAssertion
	}
	g, err := authenticate(now, issuer, r)
	if refusal, ok := errors.AsType[*Error](err); ok && freshness == Stale && refusal.Description == failed {
		// What isn't known here may be known elsewhere: a new client, a new secret.
		return g, &Error{TemporarilyUnavailable, errStale.Description, "stale_" + refusal.Reason}
	}
	return g, err
}

// check refuses requests that don't say who they are from.
func (r *Request) check() error {
	switch {
	case r.Assertion != "" && r.ClientSecret != "":
		return errTwoMethods
	case r.Assertion != "" && r.AssertionType != jwtBearer:
		return errAssertionType
	case r.Assertion == "" && (r.ClientID == "" || r.ClientSecret == ""):
		return errNoCredential
	}
	return nil
}

func (a *Authority) bySecret(now time.Time, issuer *Issuer, r *Request) (Grant, error) {
	g := Grant{Method: BySecret}
	pepper := a.directory.Pepper()
	if pepper == nil {
		return g, errNoPepper
	}
	client, known := a.directory.Client(issuer, r.ClientID)
	if client == nil {
		client = nobody
	}
	digests := pepper.Digests(r.ClientID, r.ClientSecret)
	version, err := client.authenticate(&digests, now)
	if !known {
		return g, errUnknownClient
	}
	if g.Version = version; err != nil {
		return g, err
	}
	g.Client = client
	return g, nil
}

// byAssertion tells a pod's ServiceAccount token from an assertion that the client
// signed itself, by who says that they issued it.
func (a *Authority) byAssertion(now time.Time, issuer *Issuer, r *Request) (Grant, error) {
	t, err := jws.Parse(r.Assertion)
	if err != nil {
		return Grant{}, refusedAssertion(err)
	}
	cluster := a.directory.Cluster()
	switch {
	case cluster != nil && t.Claims.Issuer == cluster.Issuer:
		return a.byServiceAccount(now, issuer, r, t, cluster)
	case cluster == nil && t.Claims.Issuer != t.Claims.Subject:
		return Grant{}, errNoCluster // it may be the cluster's
	}
	return a.byPrivateKey(now, issuer, r, t)
}

func (a *Authority) byServiceAccount(now time.Time, issuer *Issuer, r *Request, t *jws.Token, cluster *Cluster) (Grant, error) {
	g := Grant{Method: ByServiceAccount}
	proven, err := assertion.CheckServiceAccount(t, cluster.Keys, cluster.Issuer, issuer.URL, now)
	if errors.Is(err, jws.ErrUnknownKey) {
		a.directory.UnknownClusterKey()
	}
	if err != nil {
		return g, refusedAssertion(err)
	}
	account := Account{proven.Namespace, proven.Name}
	if uid := a.directory.AccountUID(account); uid == "" || uid != proven.UID {
		return g, errAccountGone
	}
	g.Account = account
	client, err := chosen(a.directory.ClientsOf(issuer, account), r.ClientID)
	switch {
	case err != nil:
		return g, err
	case !client.active:
		return g, errInactive
	}
	g.Client = client
	return g, nil
}

// chosen picks the client that a ServiceAccount authenticates as: the one that the
// request names, or the only one.
func chosen(clients []*Client, id string) (*Client, error) {
	if id != "" {
		clients = slices.DeleteFunc(slices.Clone(clients), func(c *Client) bool { return c.id != id })
	}
	switch len(clients) {
	case 0:
		return nil, errNoClientOfAccount
	case 1:
		return clients[0], nil
	default:
		return nil, errSeveralClients
	}
}

// byPrivateKey refuses what is wrong with an assertion whoever it is from, then checks one
// signature whoever the client is, and decides only then.
func (a *Authority) byPrivateKey(now time.Time, issuer *Issuer, r *Request, t *jws.Token) (Grant, error) {
	g := Grant{Method: ByPrivateKey, Claimed: t.Claims.Issuer}
	id, jti, expires, err := assertion.CheckPrivateKey(t, issuer.URL, now)
	switch {
	case err != nil:
		return g, refusedAssertion(err)
	case r.ClientID != "" && r.ClientID != id:
		return g, errAssertionClient
	}
	client, known := a.directory.Client(issuer, id)
	if client == nil {
		client = nobody
	}
	err = a.verify(client.publicKeys(), t)
	switch {
	case !known:
		return g, errUnknownClient
	case err != nil:
		return g, unproven(err)
	case !client.active:
		return g, errInactive
	}
	if err := a.replays.Use(issuer.Name+"/"+id, jti, expires, now); err != nil {
		return g, refusedAssertion(err)
	}
	g.Client = client
	return g, nil
}

// unproven is the one answer to all signatures that prove nothing. The audit log has why.
func unproven(err error) error {
	if e, ok := errors.AsType[*jws.Error](err); ok {
		return invalidClient(e.Reason)
	}
	return err
}

// refusedAssertion passes on what is wrong with an assertion, which depends on the
// assertion alone.
func refusedAssertion(err error) error {
	if refusal, ok := errors.AsType[*assertion.Error](err); ok {
		return &Error{InvalidClient, "client_assertion is refused: " + refusal.Message, refusal.Reason}
	}
	if malformed, ok := errors.AsType[*jws.Error](err); ok {
		return &Error{InvalidClient, "client_assertion is refused: " + malformed.Message, malformed.Reason}
	}
	return err
}
