package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

// fetching is the command token.
type fetching struct {
	*kube
	endpoint  endpoint
	scopes    []string
	audiences []string
	account   string
	output    string
	decode    bool
}

func newTokenCommand(k *kube) *cobra.Command {
	f := &fetching{kube: k}
	cmd := &cobra.Command{
		Use:   "token NAME",
		Short: "Get a token as a client",
		Long: `Get a token from the token endpoint as a client does, and print it.

The client's Secret is read with your own permissions, and its client_secret is sent to the
token endpoint alone that the same Secret names. A client without a secret gets its token for a ServiceAccount of its
workloadIdentities: you must be allowed to create tokens of that account.`,
		Example: `  kubectl m2m token billing
  curl -H "Authorization: Bearer $(kubectl m2m token billing)" https://invoices.example.com

  # What is in it
  kubectl m2m token billing --scope read:invoices --decode

  # From outside of the cluster
  kubectl port-forward -n m2m-system svc/m2m-operator 8443:443 &
  kubectl m2m token billing --url https://127.0.0.1:8443 --ca-file ca.crt`,
		Args:              namedOne,
		ValidArgsFunction: k.completeClient,
		RunE:              func(cmd *cobra.Command, args []string) error { return f.run(cmd.Context(), args[0]) },
	}
	flags := cmd.Flags()
	f.endpoint.addFlags(cmd, "scheme, host and port of the token endpoint, such as a port-forward's, in place of its own")
	flags.StringSliceVar(&f.scopes, "scope", nil, "a scope to ask for; without one the token has all that the client holds")
	flags.StringSliceVar(&f.audiences, "audience", nil, "a service that the token is for, of those that the client may name")
	flags.StringVar(&f.account, "service-account", "", "authenticate by a token of this ServiceAccount of the client's workloadIdentities, not by its secret")
	flags.BoolVar(&f.decode, "decode", false, "print header and claims of the token instead, without verifying it")
	addJSONFlag(cmd, &f.output, "json (the endpoint's whole answer)")
	return cmd
}

// addJSONFlag adds -o for commands that print text, or these formats.
func addJSONFlag(cmd *cobra.Command, output *string, described string, formats ...string) {
	cmd.Flags().StringVarP(output, "output", "o", "", "Output format: "+described)
	all := append([]string{"json"}, formats...)
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(all, cobra.ShellCompDirectiveNoFileComp))
	before := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if *output != "" && !slices.Contains(all, *output) {
			return fmt.Errorf("-o %s is not known here: use %s", *output, strings.Join(all, ", "))
		}
		if before != nil {
			return before(cmd, args)
		}
		return nil
	}
}

func (f *fetching) run(ctx context.Context, name string) error {
	cluster, err := f.client()
	if err != nil {
		return err
	}
	namespace, err := f.namespace()
	if err != nil {
		return err
	}
	c := &v1alpha1.M2MClient{}
	key := client.ObjectKey{Namespace: namespace, Name: name}
	if err := cluster.Get(ctx, key, c); err != nil {
		return notThere(err, key)
	}
	if c.Status.TokenURL == "" || c.Status.ClientID == "" {
		return fmt.Errorf("M2MClient %s has no token endpoint yet: %s", key, notReady(c))
	}
	form, endpoint, err := f.credential(ctx, cluster, c)
	if err != nil {
		return err
	}
	body, token, err := f.fetch(ctx, c, endpoint, form)
	if err != nil {
		return orForward(err)
	}
	return f.show(body, token)
}

// notReady is what the operator says of a client that isn't ready.
func notReady(c *v1alpha1.M2MClient) string {
	if condition := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionReady); condition != nil {
		return clean(condition.Reason + ": " + condition.Message)
	}
	return "the operator has not seen it yet"
}

// credential is the form of a token request, with what the client authenticates by, and
// where it goes. A secret goes where its Secret says: others may write a status.
func (f *fetching) credential(ctx context.Context, cluster client.Client, c *v1alpha1.M2MClient) (form url.Values, endpoint string, err error) {
	form = url.Values{"grant_type": {"client_credentials"}, "client_id": {c.Status.ClientID}}
	if len(f.scopes) > 0 {
		form.Set("scope", strings.Join(f.scopes, " "))
	}
	form["audience"] = f.audiences
	account, err := accountOf(c, f.account)
	if err != nil {
		return nil, "", err
	}
	if account == "" {
		d, err := deliveredTo(ctx, cluster, c)
		form.Set("client_secret", d.secret)
		f.endpoint.ca = d.ca
		return form, d.tokenURL, err
	}
	f.endpoint.trust(ctx, cluster)
	assertion, err := accountToken(ctx, cluster, c, account)
	form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
	form.Set("client_assertion", assertion)
	return form, c.Status.TokenURL, err
}

// accountOf is the ServiceAccount that a client authenticates by; "": by its secret.
func accountOf(c *v1alpha1.M2MClient, asked string) (string, error) {
	var accounts []string
	for _, w := range c.Spec.WorkloadIdentities {
		accounts = append(accounts, w.ServiceAccountName)
	}
	none := c.Spec.Secret != nil && c.Spec.Secret.Delivery == v1alpha1.DeliveryNone
	switch {
	case asked != "" && !slices.Contains(accounts, asked):
		return "", fmt.Errorf("the ServiceAccount %q is not among spec.workloadIdentities of M2MClient %s/%s", asked, c.Namespace, c.Name)
	case asked != "":
		return asked, nil
	case !none:
		return "", nil
	case len(accounts) == 1:
		return accounts[0], nil
	case len(accounts) > 1:
		return "", fmt.Errorf("the client has no secret and several workload identities: choose by --service-account one of %s", strings.Join(accounts, ", "))
	case c.Spec.PublicKeys != nil:
		return "", errors.New("the client has no secret: it signs assertions with a private key of its own, which is not here")
	}
	return "", errNoSecretHere(c)
}

// delivered is what a request for a token takes from a Secret of the operator's.
type delivered struct {
	secret   string
	tokenURL string
	ca       []byte // by which the endpoint is trusted, if not by what the system has
}

// deliveredTo reads the Secret that the operator delivered to a client.
func deliveredTo(ctx context.Context, cluster client.Reader, c *v1alpha1.M2MClient) (delivered, error) {
	if c.Status.SecretName == "" {
		return delivered{}, fmt.Errorf("the secret of M2MClient %s/%s is not delivered yet: %s", c.Namespace, c.Name, notReady(c))
	}
	s := &corev1.Secret{}
	key := client.ObjectKey{Namespace: c.Namespace, Name: c.Status.SecretName}
	if err := cluster.Get(ctx, key, s); apierrors.IsNotFound(err) {
		return delivered{}, fmt.Errorf("the Secret %s is gone, and comes back by itself: %s", key, notReady(c))
	} else if err != nil {
		return delivered{}, err
	}
	// Another Secret of the name might hold another's credential.
	if s.Annotations[v1alpha1.AnnotationClientUID] != string(c.UID) {
		return delivered{}, fmt.Errorf("the Secret %s is not the one that the operator made for M2MClient %s: %s", key, c.Name, notReady(c))
	}
	name, endpoint, authority := "client_secret", "token_url", v1alpha1.AuthorityBundleKey
	if c.Spec.Secret != nil && c.Spec.Secret.Template != nil && c.Spec.Secret.Template.Keys != nil {
		keys := c.Spec.Secret.Template.Keys
		name, endpoint, authority = cmp.Or(string(keys.ClientSecret), name), cmp.Or(string(keys.TokenURL), endpoint), cmp.Or(string(keys.CACertificate), authority)
	}
	for _, required := range []string{name, endpoint} {
		if len(s.Data[required]) == 0 {
			return delivered{}, fmt.Errorf("the Secret %s has no key %q: the operator has not yet written it as spec.secret.template says", key, required)
		}
	}
	return delivered{string(s.Data[name]), string(s.Data[endpoint]), s.Data[authority]}, nil
}

// assertionSeconds is the least that the API server gives.
const assertionSeconds = 600

// accountToken asks the API server for a token of a ServiceAccount that is good for the
// issuer alone (RFC 7523).
func accountToken(ctx context.Context, cluster client.Client, c *v1alpha1.M2MClient, account string) (string, error) {
	issuer, _, ok := strings.Cut(c.Status.TokenURL, "/v1/public/")
	if !ok {
		return "", fmt.Errorf("the token endpoint %s is not one of this operator", clean(c.Status.TokenURL))
	}
	seconds := int64(assertionSeconds)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{issuer}, ExpirationSeconds: &seconds}}
	s := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: account}}
	err := cluster.SubResource("token").Create(ctx, s, request)
	switch {
	case apierrors.IsNotFound(err):
		return "", fmt.Errorf("there is no ServiceAccount %s/%s: create it", c.Namespace, account)
	case err != nil:
		return "", err
	}
	return request.Status.Token, nil
}

// maxAnswer bounds an answer of the token endpoint.
const maxAnswer = 1 << 20

// fetch asks a token endpoint for a token.
func (f *fetching) fetch(ctx context.Context, c *v1alpha1.M2MClient, endpoint string, form url.Values) (body []byte, token string, err error) {
	to, host, err := f.endpoint.rebase(endpoint)
	if err != nil {
		return nil, "", err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return nil, "", err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	a, err := f.endpoint.send(request, host, maxAnswer)
	if err != nil {
		return nil, "", err
	}
	if a.status != http.StatusOK {
		return nil, "", refusal(to, a, c, form)
	}
	var granted struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(a.body, &granted); err != nil || !isWord(granted.AccessToken) {
		return nil, "", fmt.Errorf("%s answered 200 with something that is no token: it is not a token endpoint", place(to))
	}
	return a.body, granted.AccessToken, nil
}

// isWord tells whether a text is of printable ASCII without spaces.
func isWord(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' })
}

// refusal says why there is no token, and what to do.
func refusal(to *url.URL, a *answered, c *v1alpha1.M2MClient, form url.Values) error {
	var said struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
		RequestID   string `json:"request_id"`
	}
	if json.Unmarshal(a.body, &said) != nil || said.Error == "" {
		return fmt.Errorf("%s answered %d, and not as a token endpoint does: check the URL", place(to), a.status)
	}
	text := cut(clean(said.Error+": "+said.Description), 500)
	for _, name := range []string{"client_secret", "client_assertion"} {
		if secret := form.Get(name); secret != "" {
			text = strings.ReplaceAll(text, secret, "["+name+"]") // a server could send it back
		}
	}
	if said.RequestID != "" {
		text += fmt.Sprintf(" (%d, %s)", a.status, cut(clean(said.RequestID), 80))
	}
	if advice := adviceOn(said.Error, a, c); advice != "" {
		text += "\n" + advice
	}
	return errors.New(text)
}

// adviceOn is what to do about an error of the token endpoint.
func adviceOn(code string, a *answered, c *v1alpha1.M2MClient) string {
	switch {
	case a.status == http.StatusTooManyRequests:
		if after := a.header.Get("Retry-After"); after != "" {
			return "Try again in " + cut(clean(after), 40) + " s"
		}
		return "Try again later"
	case code == "invalid_client" && stateOf(c) == v1alpha1.ClientInactive:
		return fmt.Sprintf("The client is inactive: `kubectl m2m activate -n %s %s` lets it get tokens again", c.Namespace, c.Name)
	case code == "invalid_client":
		return fmt.Sprintf("`kubectl m2m get -n %s %s` shows whether the client is ready; the audit log of the token servers has the reason", c.Namespace, c.Name)
	case code == "invalid_scope":
		return "The client holds: " + orNothing(c.Status.GrantedScopes)
	case code == "invalid_target" && c.Status.Effective != nil:
		return "The client's audiences are: " + orNothing(c.Status.Effective.Audiences)
	case a.status >= http.StatusInternalServerError && c.Status.Effective != nil:
		return fmt.Sprintf("`kubectl describe clusterm2missuer %s`, and the log of the token servers, say more", c.Status.Effective.IssuerName)
	}
	return ""
}

func orNothing(all []string) string {
	if len(all) == 0 {
		return "nothing"
	}
	return clean(strings.Join(all, " "))
}

func (f *fetching) show(body []byte, token string) error {
	if !f.decode {
		if f.output == "json" {
			return printJSON(f.Out, json.RawMessage(body))
		}
		_, err := fmt.Fprintln(f.Out, token)
		return err
	}
	d, err := decodeToken(token)
	if err != nil {
		return fmt.Errorf("the token can't be decoded: %w", err)
	}
	if f.output == "json" {
		return printJSON(f.Out, d)
	}
	_, err = fmt.Fprintf(f.Out, "%s\nNot verified: `kubectl m2m verify` does that.\n", d.page(time.Now()))
	return err
}

// printJSON prints a value with one member a line.
func printJSON(w io.Writer, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, text, "", "  "); err != nil {
		return err
	}
	indented.WriteByte('\n')
	_, err = w.Write(indented.Bytes())
	return err
}
