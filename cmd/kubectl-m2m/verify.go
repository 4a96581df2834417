package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/jws"
)

// verification is the command verify.
type verification struct {
	*kube
	endpoint endpoint
	issuer   string // name of a ClusterM2MIssuer
	jwksURL  string
	jwksFile string
	want     expectation
	output   string
}

func newVerifyCommand(k *kube) *cobra.Command {
	v := &verification{kube: k}
	cmd := &cobra.Command{
		Use:   "verify [TOKEN|-]",
		Short: "Verify a token",
		Long: `Verify a token as services do: signature, issuer, audience, times and scopes. Without a TOKEN
it is read from the standard input, where the list of processes doesn't show it.

Issuer and keys are those of the ClusterM2MIssuer that the token is of. With --jwks-url or
--jwks-file, --iss and --audience no cluster is needed. A required scope such as read:users
is held by who has it, or read:*.

That a token was revoked, or its client deactivated, can't be seen in it: the introspection
endpoint knows. The command fails if the token isn't valid.`,
		Example: `  kubectl m2m token billing | kubectl m2m verify
  kubectl m2m verify --require-scope read:invoices --audience https://invoices.example.com < token

  # Without a cluster
  kubectl m2m verify --jwks-file jwks.json --iss https://auth.example.com --audience project-live-1 < token`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, args []string) error { return v.run(cmd.Context(), args) },
	}
	flags := cmd.Flags()
	v.endpoint.addFlags(cmd, "scheme, host and port of the server with the keys, such as a port-forward's, in place of those of the issuer's status")
	flags.StringVar(&v.issuer, "issuer", "", "the ClusterM2MIssuer that the token must be of; without it any of the cluster")
	flags.StringVar(&v.want.iss, "iss", "", "the iss claim that the token must have; without it that of the ClusterM2MIssuer")
	flags.StringVar(&v.want.audience, "audience", "", "the aud that the token must have; without it the project id of the issuer")
	flags.StringSliceVar(&v.want.scopes, "require-scope", nil, "a scope that the token must have, or a wildcard for it")
	flags.StringVar(&v.jwksURL, "jwks-url", "", "where the keys are (a JWK Set), in place of the issuer's status.jwksURL")
	flags.StringVar(&v.jwksFile, "jwks-file", "", "a file with the keys (a JWK Set)")
	cmd.MarkFlagsMutuallyExclusive("jwks-url", "jwks-file", "url")
	_ = cmd.RegisterFlagCompletionFunc("issuer", k.completeIssuers)
	addJSONFlag(cmd, &v.output, "json")
	return cmd
}

func (v *verification) run(ctx context.Context, args []string) error {
	text, err := v.token(args)
	if err != nil {
		return err
	}
	token, err := jws.Parse(text)
	if err != nil {
		return v.report(text, []check{{"form", false, err.Error()}})
	}
	want, source, err := v.expect(ctx, token)
	if mismatch, ok := errors.AsType[*issuerMismatch](err); ok {
		return v.report(text, []check{{"issuer", false, mismatch.Error()}})
	}
	if err != nil {
		return err
	}
	keys, err := v.keys(ctx, source)
	if err != nil {
		return orForward(err)
	}
	return v.report(text, judge(token, keys, want, time.Now()))
}

func (v *verification) token(args []string) (string, error) {
	if len(args) == 1 && args[0] != "-" {
		return args[0], nil
	}
	if isTerminal(v.In) {
		fmt.Fprintln(v.ErrOut, "Reading the token from the terminal; end with Ctrl-D")
	}
	text, err := readAll(v.In, "the standard input", jws.MaxBytes+2)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(text)), nil
}

// expectation is what a token must be like.
type expectation struct {
	issuer     string // what its issuer is called, for people
	iss        string
	audience   string
	profile    v1alpha1.TokenProfile // "": either
	algorithms []string              // nil: all that are known
	scopes     []string
}

// expect finds out what the token must be like, and where the keys are.
func (v *verification) expect(ctx context.Context, token *jws.Token) (want expectation, source string, err error) {
	want = v.want
	if v.issuer == "" && want.iss != "" && want.audience != "" && (v.jwksURL != "" || v.jwksFile != "") {
		want.issuer = want.iss
		return want, v.jwksURL, nil
	}
	cluster, err := v.client()
	if err != nil {
		return want, "", err
	}
	v.endpoint.trust(ctx, cluster)
	list := &v1alpha1.ClusterM2MIssuerList{}
	if err := cluster.List(ctx, list); apierrors.IsForbidden(err) {
		return want, "", fmt.Errorf("you may not list ClusterM2MIssuers: pass --jwks-url (as in the Secret of the client), --iss and --audience: %w", err)
	} else if err != nil {
		return want, "", err
	}
	issuer, err := issuerOf(list.Items, token, v.issuer)
	if err != nil {
		return want, "", err
	}
	want = expectedOf(issuer, want)
	source = v.jwksURL
	if source == "" && v.jwksFile == "" {
		if source = issuer.Status.JWKSURL; source == "" {
			return want, "", fmt.Errorf("ClusterM2MIssuer %s publishes no keys yet: `kubectl describe clusterm2missuer %s` says why", issuer.Name, issuer.Name)
		}
	}
	return want, source, nil
}

// issuerMismatch is a token of none of the issuers that it may be of.
type issuerMismatch struct{ message string }

func (e *issuerMismatch) Error() string { return e.message }

// issuerOf is the issuer that a token is of: the one that is asked for, else the one that
// has its iss, else the one that has its key.
func issuerOf(issuers []v1alpha1.ClusterM2MIssuer, token *jws.Token, name string) (*v1alpha1.ClusterM2MIssuer, error) {
	find := func(is func(*v1alpha1.ClusterM2MIssuer) bool) *v1alpha1.ClusterM2MIssuer {
		for n := range issuers {
			if is(&issuers[n]) {
				return &issuers[n]
			}
		}
		return nil
	}
	if name != "" {
		if i := find(func(i *v1alpha1.ClusterM2MIssuer) bool { return i.Name == name }); i != nil {
			return i, nil
		}
		return nil, fmt.Errorf("there is no ClusterM2MIssuer %s: `kubectl get clusterm2missuers` shows all", name)
	}
	if i := find(func(i *v1alpha1.ClusterM2MIssuer) bool { return issOf(i) == token.Claims.Issuer }); i != nil {
		return i, nil
	}
	if i := find(func(i *v1alpha1.ClusterM2MIssuer) bool { return hasKey(i, token.KeyID) }); i != nil {
		return i, nil
	}
	return nil, &issuerMismatch{fmt.Sprintf("no ClusterM2MIssuer of this cluster has the iss %q", cut(clean(token.Claims.Issuer), 200))}
}

func issOf(i *v1alpha1.ClusterM2MIssuer) string {
	if i.Spec.Token != nil && i.Spec.Token.Issuer != "" {
		return i.Spec.Token.Issuer
	}
	return i.Spec.URL
}

func hasKey(i *v1alpha1.ClusterM2MIssuer, kid string) bool {
	return kid != "" && slices.ContainsFunc(i.Status.Keys, func(k v1alpha1.SigningKeyStatus) bool { return k.KeyID == kid })
}

// expectedOf adds what the tokens of an issuer are like to what was asked for.
func expectedOf(i *v1alpha1.ClusterM2MIssuer, asked expectation) expectation {
	asked.issuer = "ClusterM2MIssuer " + i.Name
	if asked.iss == "" {
		asked.iss = issOf(i)
	}
	if asked.audience == "" {
		asked.audience = i.Spec.ProjectID
	}
	asked.profile, asked.algorithms = v1alpha1.ProfileStytch, []string{"ES256"}
	if i.Spec.Token != nil && i.Spec.Token.Profile != "" {
		asked.profile = i.Spec.Token.Profile
	}
	if i.Spec.Signing != nil && i.Spec.Signing.Algorithm != "" {
		asked.algorithms = []string{i.Spec.Signing.Algorithm}
	}
	return asked
}

// maxKeySet bounds a JWK Set.
const maxKeySet = 1 << 20

// keys reads the public keys of the issuer.
func (v *verification) keys(ctx context.Context, source string) (jws.KeySet, error) {
	if v.jwksFile != "" {
		text, err := readFile(v.jwksFile, maxKeySet)
		if err != nil {
			return jws.KeySet{}, fmt.Errorf("--jwks-file: %w", err)
		}
		return jws.ParseKeySet(text)
	}
	to, host, err := v.endpoint.rebase(source)
	if err != nil {
		return jws.KeySet{}, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, to.String(), http.NoBody)
	if err != nil {
		return jws.KeySet{}, err
	}
	a, err := v.endpoint.send(request, host, maxKeySet)
	if err != nil {
		return jws.KeySet{}, err
	}
	if a.status != http.StatusOK {
		return jws.KeySet{}, fmt.Errorf("%s answered %d and no keys: check the URL", clean(to.String()), a.status)
	}
	return jws.ParseKeySet(a.body)
}

// check is one thing that a token must be.
type check struct {
	Name    string `json:"name"`
	OK      bool   `json:"ok"`
	Message string `json:"message"`
}

// judge decides over a token. Each check stands for itself, and all must hold.
func judge(t *jws.Token, keys jws.KeySet, want expectation, now time.Time) []check {
	checks := []check{
		equal("issuer", "iss", t.Claims.Issuer, want.iss),
		checkSignature(t, keys, want),
		checkProfile(t, want.profile),
		checkAudience(t.Claims.Audience, want.audience),
		checkExpiry(t.Claims.ExpiresAt, now),
	}
	if at := t.Claims.NotBefore; at != nil {
		checks = append(checks, check{"not before", !now.Before(time.Unix(*at, 0)), "nbf is " + moment(time.Unix(*at, 0), now)})
	}
	checks = append(checks, check{"subject", t.Claims.Subject != "", orMissing("sub", t.Claims.Subject)})
	for _, scope := range want.scopes {
		checks = append(checks, checkScope(strings.Fields(t.Claims.Scope), scope))
	}
	return checks
}

func equal(name, claim, is, want string) check {
	switch {
	case is == want && is != "":
		return check{name, true, claim + " is " + clean(is)}
	case is == "":
		return check{name, false, "there is no " + claim}
	}
	return check{name, false, fmt.Sprintf("%s is %q, not %q", claim, cut(clean(is), 200), want)}
}

func checkSignature(t *jws.Token, keys jws.KeySet, want expectation) check {
	if err := keys.Verify(t, want.algorithms); err != nil {
		return check{"signature", false, err.Error()}
	}
	return check{"signature", true, fmt.Sprintf("%s, by the key %s of %s", t.Algorithm, orDash(clean(t.KeyID)), want.issuer)}
}

// checkProfile keeps other JWTs of the same issuer out (RFC 8725 section 3.12).
func checkProfile(t *jws.Token, want v1alpha1.TokenProfile) check {
	var profile v1alpha1.TokenProfile
	var needed []string
	switch t.Type {
	case "JWT":
		profile, needed = v1alpha1.ProfileStytch, []string{"iat", "nbf", "scope"}
	case "at+jwt", "application/at+jwt":
		profile, needed = v1alpha1.ProfileRFC9068, []string{"iat", "client_id", "jti"}
	default:
		return check{"profile", false, fmt.Sprintf("typ is %q, which access tokens don't have", cut(clean(t.Type), 50))}
	}
	if want != "" && profile != want {
		return check{"profile", false, fmt.Sprintf("typ is %q, which tokens of the %s profile don't have", t.Type, want)}
	}
	for _, name := range needed {
		var value json.RawMessage
		if err := t.Claim(name, &value); err != nil || value == nil {
			return check{"profile", false, fmt.Sprintf("there is no %s, which tokens of the %s profile have", name, profile)}
		}
	}
	return check{"profile", true, fmt.Sprintf("typ is %s: %s", t.Type, profile)}
}

func checkAudience(audiences []string, want string) check {
	is := clean(strings.Join(audiences, " "))
	if slices.Contains(audiences, want) {
		return check{"audience", true, "aud has " + want}
	}
	return check{"audience", false, fmt.Sprintf("aud is %s, without %s: --audience says which it must have", orDash(cut(is, 300)), want)}
}

func checkExpiry(at *int64, now time.Time) check {
	if at == nil {
		return check{"expiry", false, "there is no exp"}
	}
	expires := time.Unix(*at, 0)
	return check{"expiry", now.Before(expires), "exp is " + moment(expires, now)}
}

// checkScope takes a scope that is held, and an action on a resource (read:users) of who
// may do it on all (read:*). The first colon divides, and nothing else is a wildcard.
func checkScope(held []string, required string) check {
	if slices.Contains(held, required) {
		return check{"scope", true, "it has " + required}
	}
	action, resource, ok := strings.Cut(required, ":")
	if ok && resource != "" && slices.Contains(held, action+":*") {
		return check{"scope", true, fmt.Sprintf("it has %s:*, for %s", action, required)}
	}
	return check{"scope", false, fmt.Sprintf("it has no %s; it has: %s", required, cut(orNothing(held), 300))}
}

func orMissing(claim, value string) string {
	if value == "" {
		return "there is no " + claim
	}
	return claim + " is " + clean(value)
}

// report prints the checks, and is an error if one of them failed.
func (v *verification) report(text string, checks []check) error {
	var failed []string
	for _, c := range checks {
		if !c.OK {
			failed = append(failed, c.Name)
		}
	}
	if err := v.print(text, checks, failed == nil); err != nil {
		return err
	}
	if failed != nil {
		return fmt.Errorf("the token is not valid: %s", strings.Join(failed, ", "))
	}
	return nil
}

func (v *verification) print(text string, checks []check, valid bool) error {
	if v.output == "json" {
		d, err := decodeToken(text)
		if err != nil {
			d = &decoded{}
		}
		return printJSON(v.Out, struct {
			Valid  bool            `json:"valid"`
			Checks []check         `json:"checks"`
			Header json.RawMessage `json:"header,omitempty"`
			Claims json.RawMessage `json:"claims,omitempty"`
		}{valid, checks, d.Header, d.Claims})
	}
	p := &page{colours: coloured(v.Out)}
	var rows []row
	for _, c := range checks {
		if c.OK {
			rows = append(rows, row{green, []string{"ok", c.Name, c.Message}})
		} else {
			rows = append(rows, row{red, []string{"WRONG", c.Name, c.Message}})
		}
	}
	p.table(rows)
	if valid {
		p.WriteString("The token is valid.\n")
	}
	_, err := fmt.Fprint(v.Out, p.String())
	return err
}

// coloured tells whether colours are for a person to see.
func coloured(out any) bool {
	return isTerminal(out) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// completeIssuers completes the names of ClusterM2MIssuers.
func (k *kube) completeIssuers(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	cluster, err := k.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(v1alpha1.SchemeGroupVersion.WithKind("ClusterM2MIssuerList"))
	if err := cluster.List(ctx, list); err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for i := range list.Items {
		if strings.HasPrefix(list.Items[i].Name, begun) {
			names = append(names, list.Items[i].Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
