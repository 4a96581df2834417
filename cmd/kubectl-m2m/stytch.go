package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// importing is the command import-stytch.
type importing struct {
	*kube
	endpoint   endpoint
	projectID  string
	secretFile string
	outputDir  string
	force      bool
	manifests  manifestOptions
	// wait is how a 429 is waited for.
	wait func(context.Context, time.Duration) error
}

func newImportStytchCommand(k *kube) *cobra.Command {
	i := &importing{kube: k, wait: waitFor}
	cmd := &cobra.Command{
		Use:   "import-stytch",
		Short: "Write manifests for the M2M clients of a Stytch project",
		Long: `Read the M2M clients of a Stytch project by its API, and write an M2MClient manifest for each:
to the standard output, or to a directory. Nothing is written to the cluster, and nothing is
changed at Stytch. It works with this operator's own management API, too.

The project id and its secret are read from STYTCH_PROJECT_ID and STYTCH_SECRET, or from
--project-id and --secret-file.

Stytch doesn't show the secrets of clients, so each client gets a new secret from the operator
and, unless you ask otherwise, a new client id:

  --keep-client-ids        the manifests name the client ids (spec.clientID)
  --import-from-secrets    the manifests adopt id and secret from Secrets that you make
                           (spec.secret.importFrom); the commands for that are printed

Both need a grant of the issuer with chosenClientIDs and reservedClientIDs, because ids of Stytch
look as if this operator had made them. What an M2MClient can't have is left out of
its manifest and named on the standard error.`,
		Example: `  export STYTCH_PROJECT_ID=project-live-... STYTCH_SECRET=secret-live-...
  kubectl m2m import-stytch --output-dir clients/
  kubectl m2m import-stytch --keep-client-ids | kubectl apply -n services -f -

  # From this operator's management API
  kubectl m2m import-stytch --url https://auth.example.com`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return i.run(cmd.Context()) },
	}
	flags := cmd.Flags()
	i.endpoint.addFlags(cmd, "the API's URL; without it https://test.stytch.com or https://api.stytch.com, by the project id")
	flags.StringVar(&i.projectID, "project-id", "", "the Stytch project; without it STYTCH_PROJECT_ID")
	flags.StringVar(&i.secretFile, "secret-file", "", "a file with the project's secret; without it STYTCH_SECRET")
	flags.StringVar(&i.outputDir, "output-dir", "", "write each manifest to a file NAME.yaml in this directory")
	flags.BoolVar(&i.force, "force", false, "with --output-dir: overwrite files that exist")
	flags.BoolVar(&i.manifests.keepIDs, "keep-client-ids", false, "keep the client ids")
	flags.BoolVar(&i.manifests.fromSecrets, "import-from-secrets", false, "adopt ids and secrets from Secrets NAME-stytch that you make")
	flags.StringVar(&i.manifests.issuer, "issuer", "", "the ClusterM2MIssuer of the clients; without it the issuer \"default\"")
	cmd.MarkFlagsMutuallyExclusive("keep-client-ids", "import-from-secrets")
	_ = cmd.MarkFlagDirname("output-dir")
	_ = cmd.RegisterFlagCompletionFunc("issuer", k.completeIssuers)
	return cmd
}

func (i *importing) run(ctx context.Context) error {
	project, err := i.project()
	if err != nil {
		return err
	}
	clients, err := i.clients(ctx, project)
	if err != nil {
		return err
	}
	if *i.flags.Namespace != "" {
		i.manifests.namespace = *i.flags.Namespace
	}
	manifests := manifestsOf(clients, i.manifests)
	if err := i.write(manifests); err != nil {
		return err
	}
	i.tell(manifests)
	return nil
}

// project is how a Stytch project is reached.
type project struct {
	id, secret string
	search     *url.URL
}

func (i *importing) project() (p project, err error) {
	p.id, p.secret = i.projectID, os.Getenv("STYTCH_SECRET")
	if p.id == "" {
		p.id = os.Getenv("STYTCH_PROJECT_ID")
	}
	if i.secretFile != "" {
		text, err := readFile(i.secretFile, 4<<10)
		if err != nil {
			return p, fmt.Errorf("--secret-file: %w", err)
		}
		p.secret = strings.TrimSpace(string(text))
	}
	base := i.endpoint.base
	switch {
	case p.id == "":
		return p, errors.New("no project: set STYTCH_PROJECT_ID, or --project-id")
	case p.secret == "":
		return p, errors.New("no project secret: set STYTCH_SECRET, or --secret-file")
	case base != "":
	case strings.HasPrefix(p.id, "project-test-"):
		base = "https://test.stytch.com"
	case strings.HasPrefix(p.id, "project-live-"):
		base = "https://api.stytch.com"
	default:
		return p, errors.New("the project id begins neither with project-test- nor with project-live-: set --url")
	}
	u, err := parseURL(base)
	if err != nil {
		return p, fmt.Errorf("--url: %w", err)
	}
	p.search = u.JoinPath("/v1/m2m/clients/search")
	return p, nil
}

// stytchClient is what Stytch's API says of a client.
type stytchClient struct {
	ID          string                     `json:"client_id"`
	Name        string                     `json:"client_name"`
	Description string                     `json:"client_description"`
	Status      string                     `json:"status"`
	Scopes      []string                   `json:"scopes"`
	Metadata    map[string]json.RawMessage `json:"trusted_metadata"`
}

// Bounds of what is imported.
const (
	importPage   = 100
	maxPageBytes = 16 << 20
	maxImported  = 100_000
)

// clients reads all clients of a project, each once.
func (i *importing) clients(ctx context.Context, p project) ([]stytchClient, error) {
	var all []stytchClient
	known, cursors := map[string]bool{}, map[string]bool{}
	show := &progress{w: i.ErrOut, terminal: isTerminal(i.ErrOut)}
	defer show.end()
	for cursor := ""; ; {
		page, next, err := i.page(ctx, p, cursor)
		if err != nil {
			return nil, err
		}
		for _, c := range page {
			if !known[c.ID] {
				known[c.ID] = true
				all = append(all, c)
			}
		}
		if show.terminal {
			show.say(fmt.Sprintf("%d clients read", len(all)))
		}
		switch {
		case len(all) > maxImported:
			return nil, fmt.Errorf("the project has more than %d clients, which is more than this reads", maxImported)
		case next == "":
			return all, nil
		case cursors[next] || len(cursors) > maxImported/importPage:
			return nil, fmt.Errorf("%s answers with one page after the other and comes to no end", place(p.search))
		}
		cursors[next] = true
		cursor = next
	}
}

// page reads one page.
func (i *importing) page(ctx context.Context, p project, cursor string) (clients []stytchClient, next string, err error) {
	query := map[string]any{"limit": importPage}
	if cursor != "" {
		query["cursor"] = cursor
	}
	body, err := json.Marshal(query)
	if err != nil {
		return nil, "", err
	}
	a, err := i.ask(ctx, p, body)
	if err != nil {
		return nil, "", err
	}
	var found struct {
		Clients *[]stytchClient `json:"m2m_clients"`
		Results struct {
			NextCursor *string `json:"next_cursor"`
		} `json:"results_metadata"`
	}
	if err := json.Unmarshal(a.body, &found); err != nil || found.Clients == nil {
		return nil, "", fmt.Errorf("%s answered 200 with something that is no list of clients: it is not Stytch's API", place(p.search))
	}
	for _, c := range *found.Clients {
		if c.ID == "" {
			return nil, "", fmt.Errorf("%s answered with a client that has no client_id", place(p.search))
		}
	}
	if found.Results.NextCursor != nil {
		next = *found.Results.NextCursor
	}
	return *found.Clients, next, nil
}

// Of an API that says it is asked too much.
const (
	askings     = 6
	longestWait = time.Minute
)

// ask sends a search, and again where the API says that it comes too soon.
func (i *importing) ask(ctx context.Context, p project, body []byte) (*answered, error) {
	for n := 1; ; n++ {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.search.String(), bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		request.SetBasicAuth(p.id, p.secret)
		request.Header.Set("Content-Type", "application/json")
		a, err := i.endpoint.send(request, "", maxPageBytes)
		if err != nil {
			return nil, err
		}
		busy := a.status == http.StatusTooManyRequests || a.status == http.StatusServiceUnavailable
		switch {
		case a.status == http.StatusOK:
			return a, nil
		case !busy || n == askings:
			return nil, searchRefused(p, a)
		}
		if err := i.wait(ctx, retryAfter(a.header.Get("Retry-After"), n)); err != nil {
			return nil, err
		}
	}
}

// retryAfter is how long to wait before asking again: as the API says in seconds, or longer
// each time; never longer than a minute.
func retryAfter(said string, attempt int) time.Duration {
	if seconds, err := strconv.ParseUint(said, 10, 16); err == nil {
		return min(time.Duration(seconds)*time.Second, longestWait)
	}
	return min(time.Second<<min(attempt, 10), longestWait)
}

func waitFor(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// searchRefused says what the API didn't like.
func searchRefused(p project, a *answered) error {
	var said struct {
		Type    string `json:"error_type"`
		Message string `json:"error_message"`
	}
	_ = json.Unmarshal(a.body, &said) // without it the status says enough
	text := fmt.Sprintf("%s answered %d", place(p.search), a.status)
	if said.Type != "" {
		text += ": " + strings.ReplaceAll(cut(clean(said.Type+": "+said.Message), 500), p.secret, "[secret]")
	}
	if a.status == http.StatusUnauthorized {
		text += "\nCheck the project id and its secret, and that both are of one environment (test or live)"
	}
	return errors.New(text)
}

// write writes the manifests, to a file each or one after the other.
func (i *importing) write(manifests []manifest) error {
	if i.outputDir == "" {
		for n, m := range manifests {
			if n > 0 {
				fmt.Fprintln(i.Out, "---")
			}
			if _, err := i.Out.Write(m.text); err != nil {
				return err
			}
		}
		return nil
	}
	if err := os.MkdirAll(i.outputDir, 0o755); err != nil {
		return err
	}
	for _, m := range manifests {
		if err := i.writeFile(m); err != nil {
			return err
		}
	}
	return nil
}

func (i *importing) writeFile(m manifest) error {
	name := filepath.Join(i.outputDir, m.name+".yaml")
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if i.force {
		flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(name, flags, 0o644)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s exists: --force overwrites it", name)
	}
	if err != nil {
		return err
	}
	if _, err := f.Write(m.text); err != nil {
		f.Close()
		return err
	}
	fmt.Fprintln(i.Out, name)
	return f.Close()
}

// tell says what isn't in the manifests, and what is to be done.
func (i *importing) tell(manifests []manifest) {
	problems := 0
	for _, m := range manifests {
		for _, problem := range m.problems {
			fmt.Fprintf(i.ErrOut, "%s (client_name %q): %s\n", m.name, cut(clean(m.from.Name), 80), problem)
		}
		problems += len(m.problems)
	}
	fmt.Fprintf(i.ErrOut, "%d manifests written, %d things to look at\n", len(manifests), problems)
	switch {
	case len(manifests) == 0:
	case i.manifests.fromSecrets:
		fmt.Fprint(i.ErrOut, `
Each client adopts id and secret from a Secret. It waits until that is there; the issuer must
grant the namespace chosenClientIDs and reservedClientIDs. Make the Secrets, with each secret in a file:

`)
		for _, m := range manifests {
			fmt.Fprint(i.ErrOut, m.secretCommands(i.manifests.namespace))
		}
	case i.manifests.keepIDs:
		fmt.Fprintln(i.ErrOut, "Each client gets a new secret, and keeps its client id: the issuer must grant the namespace chosenClientIDs and reservedClientIDs.")
	default:
		fmt.Fprintln(i.ErrOut, "Each client gets a new client id and a new secret: Stytch doesn't show the present ones' secrets.")
	}
}
