package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// demo shows the whole life of a client. It fails if any step doesn't do what it
// should, and stops all that it started.
func demo(ctx context.Context, s state) (err error) {
	if _, err := exec.LookPath("curl"); err != nil {
		return errors.New("the demo gets its tokens with curl: please install it")
	}
	dir, err := os.MkdirTemp("", "m2m-demo-") // beside what `up` may have running
	if err != nil {
		return err
	}
	defer func() {
		if err != nil && ctx.Err() == nil {
			err = fmt.Errorf("%w\n(all logs: %s)", err, dir)
		} else {
			_ = os.RemoveAll(dir)
		}
	}()
	started := time.Now()
	heading("A Kubernetes control plane with the operator on it")
	i, err := install(ctx, state{root: s.root, dir: dir}, os.Stdout)
	if err != nil {
		return err
	}
	defer func() {
		fmt.Println("\nStopping everything")
		err = errors.Join(err, i.Stop())
	}()
	if err := tellStory(ctx, i); err != nil {
		return fmt.Errorf("the demo failed: %w", err)
	}
	heading("It all worked")
	fmt.Printf(`A manifest became a credential, the credential became a token, and the token was
verified with the published keys. Deactivated, the client was refused; deleted,
it was gone with its Secret. Another needed none, and a third was made by a program.
That took %v.

To play with it yourself: make up
`, time.Since(started).Round(time.Second))
	return nil
}

// secret is what the Secret of a client holds.
type secret map[string]string

// story is the demo's sequence of steps.
type story struct {
	*local
	ctx    context.Context
	secret secret
	old    secret // before the rotation
	token  string
}

func tellStory(ctx context.Context, i *local) error {
	ctx, stopWatching := i.WhileRunning(ctx)
	defer stopWatching()
	s := &story{local: i, ctx: ctx}
	for _, step := range []struct {
		heading string
		do      func() error
	}{
		{"Apply the samples", s.apply},
		{"The client has a credential in a Secret", s.showSecret},
		{"Exchange the credential for a token", s.getToken},
		{"Verify the token with the published keys", s.verify},
		{"Rotate the secret: the new one and the one before both work", s.rotate},
		{"Revoke the old secret: it is refused, the new one works", s.revoke},
		{"Deactivate the client: it is refused", s.deactivate},
		{"Delete the client: it is gone, and its Secret with it", s.remove},
		{"A pod needs no secret at all: the token of its ServiceAccount will do", s.workload},
		{"A program makes a client through the management API, and uses it at once", s.manage},
	} {
		heading(step.heading)
		if err := step.do(); err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return fmt.Errorf("%s: %w", step.heading, err)
		}
	}
	return nil
}

func (s *story) apply() error {
	sample, err := os.ReadFile(filepath.Join(s.root, "config", "samples", "m2mclient.yaml"))
	if err != nil {
		return err
	}
	fmt.Printf("$ cat config/samples/m2mclient.yaml\n%s\n", sample)
	if err := s.kubectl("apply", "-k", "config/samples"); err != nil {
		return err
	}
	return s.kubectl("wait", "m2mclient/billing", "--for=condition=Ready", "--timeout=30s")
}

func (s *story) showSecret() (err error) {
	if err := s.kubectl("get", "m2m"); err != nil {
		return err
	}
	if err := s.kubectl("describe", "secret", "billing"); err != nil {
		return err
	}
	s.secret, err = s.readSecret("billing")
	return err
}

func (s *story) getToken() error {
	fmt.Println("client_id and client_secret go from the Secret to curl's standard input.")
	answer, err := s.requestToken()
	if err != nil {
		return err
	}
	if answer.status != http.StatusOK || answer.AccessToken == "" {
		return fmt.Errorf("HTTP %d %s", answer.status, answer.Error)
	}
	s.token = answer.AccessToken
	return printToken(s.token)
}

func (s *story) verify() error {
	keys, err := s.curl("", s.secret["jwks_url"])
	if err != nil {
		return err
	}
	scopes, err := verifyToken(s.token, keys.body, s.secret["issuer"], s.secret["client_id"])
	if err != nil {
		return err
	}
	if scopes != s.secret["scopes"] {
		return fmt.Errorf("the token's scope is %q, the client has %q", scopes, s.secret["scopes"])
	}
	fmt.Printf("\nThe signature is good. Client %s may: %s\n", s.secret["client_id"], scopes)
	return nil
}

func (s *story) rotate() (err error) {
	s.old = s.secret
	const text = "demo"
	if err := s.kubectl("annotate", "m2mclient", "billing", "m2m-operator.dev/rotate="+text); err != nil {
		return err
	}
	if err := s.kubectl("wait", "m2mclient/billing", "--for=jsonpath={.status.observedTriggers.annotation}="+text, "--timeout=30s"); err != nil {
		return err
	}
	if err := s.kubectl("wait", "m2mclient/billing", "--for=condition=Ready", "--timeout=30s"); err != nil {
		return err
	}
	if err := s.versions(); err != nil {
		return err
	}
	if s.secret, err = s.readSecret("billing"); err != nil {
		return err
	}
	if s.secret["client_secret"] == s.old["client_secret"] {
		return errors.New("the Secret holds the same secret")
	}
	return errors.Join(s.accepted(s.old), s.accepted(s.secret))
}

// versions shows the valid versions of the client's secret.
func (s *story) versions() error {
	return s.kubectl("get", "m2mclient", "billing",
		"-o=custom-columns=VERSIONS:.status.credentials[*].version,ROLES:.status.credentials[*].role,END:.status.credentials[*].notAfter")
}

// accepted asks for a token with what a Secret held.
func (s *story) accepted(held secret) error {
	now := s.secret
	defer func() { s.secret = now }()
	s.secret = held
	answer, err := s.requestToken()
	if err == nil && answer.status != http.StatusOK {
		err = fmt.Errorf("HTTP %d %s", answer.status, answer.Error)
	}
	return err
}

func (s *story) revoke() error {
	version, err := s.Cluster.Kubectl(s.ctx, "get", "m2mclient", "billing", "-o", "jsonpath={.status.credentials[1].version}").Output()
	if err != nil {
		return err
	}
	if err := s.kubectl("patch", "m2mclient", "billing", "--type=merge", fmt.Sprintf(`--patch={"spec":{"rotation":{"revoke":[%q]}}}`, version)); err != nil {
		return err
	}
	now := s.secret
	s.secret = s.old
	err = s.refused()
	s.secret = now
	return errors.Join(err, s.accepted(now), s.versions())
}

func (s *story) deactivate() error {
	if err := s.kubectl("patch", "m2mclient", "billing", "--type=merge", `--patch={"spec":{"state":"Inactive"}}`); err != nil {
		return err
	}
	return s.refused()
}

func (s *story) remove() error {
	if err := s.kubectl("delete", "m2mclient", "billing"); err != nil {
		return err
	}
	if err := s.kubectl("wait", "--for=delete", "secret/billing", "--timeout=60s"); err != nil {
		return err
	}
	if err := s.kubectl("get", "secret", "billing"); err == nil {
		return errors.New("the Secret is still there")
	}
	return s.refused()
}

// workload does what a pod does that mounts a projected token of its ServiceAccount.
func (s *story) workload() error {
	if err := s.kubectl("create", "serviceaccount", "shipping"); err != nil {
		return err
	}
	if err := s.kubectl("wait", "m2mclient/shipping", "--for=condition=Ready", "--timeout=30s"); err != nil {
		return err
	}
	args := []string{"create", "token", "shipping", "--audience=" + s.secret["issuer"]}
	show("kubectl", args)
	projected, err := s.Cluster.Kubectl(s.ctx, args...).Output()
	if err != nil {
		return err
	}
	fmt.Println("The token goes to curl's standard input; in a pod it is a file.")
	r, err := s.curl(fmt.Sprintf("data = \"client_assertion=%s\"\n", strings.TrimSpace(string(projected))), "--config", "-",
		"--data", "grant_type=client_credentials",
		"--data-urlencode", "client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer", s.secret["token_url"])
	if err == nil && r.status != http.StatusOK {
		err = fmt.Errorf("HTTP %d", r.status)
	}
	return err
}

// manage does what a program does that was written for Stytch's M2M API.
func (s *story) manage() error {
	fmt.Println("The project id and a project secret go to curl's standard input.")
	r, err := s.curl(fmt.Sprintf("user = \"%s:%s\"\n", s.ProjectID, s.ProjectSecret), "--config", "-",
		"--header", "Content-Type: application/json", "--data", `{"client_name":"Reports","scopes":["read:reports"]}`, s.Servers[0].URL+"/v1/m2m/clients")
	if err != nil || r.status != http.StatusOK {
		return errors.Join(err, fmt.Errorf("HTTP %d", r.status))
	}
	var made struct {
		Client struct {
			ID     string `json:"client_id"`
			Secret string `json:"client_secret"`
		} `json:"m2m_client"`
	}
	if err := json.Unmarshal(r.body, &made); err != nil {
		return err
	}
	if err := s.accepted(secret{"client_id": made.Client.ID, "client_secret": made.Client.Secret, "token_url": s.secret["token_url"]}); err != nil {
		return err
	}
	return s.kubectl("get", "m2m", "--all-namespaces")
}

// refused asks for a token until the server, which hears of changes from its watch,
// refuses.
func (s *story) refused() error {
	const patience = 5 * time.Second
	for deadline := time.Now().Add(patience); ; {
		answer, err := s.requestToken()
		switch {
		case err != nil:
			return err
		case answer.status == http.StatusUnauthorized && answer.Error == "invalid_client":
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("not refused %v later: HTTP %d %s", patience, answer.status, answer.Error)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (s *story) readSecret(name string) (secret, error) {
	output, err := s.Cluster.Kubectl(s.ctx, "get", "secret", name, "-o", "jsonpath={.data}").Output()
	if err != nil {
		return nil, err
	}
	var data map[string][]byte
	if err := json.Unmarshal(output, &data); err != nil {
		return nil, err
	}
	values := secret{}
	for _, key := range []string{"client_id", "client_secret", "token_url", "issuer", "jwks_url", "scopes"} {
		if len(data[key]) == 0 {
			return nil, fmt.Errorf("the Secret has no %s", key)
		}
		values[key] = string(data[key])
	}
	return values, nil
}

// kubectl shows a command and what it prints.
func (s *story) kubectl(args ...string) error {
	show("kubectl", args)
	cmd := s.Cluster.Kubectl(s.ctx, args...)
	cmd.Dir = s.root
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
	return cmd.Run()
}

func heading(text string) { fmt.Printf("\n== %s\n\n", text) }

// show prints a command as a shell takes it.
func show(program string, args []string) {
	fmt.Print("$ ", program)
	for _, arg := range args {
		if strings.ContainsAny(arg, ` {"`) {
			arg = "'" + arg + "'"
		}
		fmt.Print(" ", arg)
	}
	fmt.Println()
}
