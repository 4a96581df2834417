package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// response is what curl got.
type response struct {
	status int
	body   []byte
}

// curl shows a curl command and what it gets. input becomes its standard input.
func (s *story) curl(input string, args ...string) (response, error) {
	show("curl", args)
	quietly := []string{"--silent", "--show-error", "--noproxy", "*", "--max-time", "10", "--write-out", `\nHTTP %{http_code}`}
	cmd := exec.CommandContext(s.ctx, "curl", append(quietly, args...)...)
	cmd.Stdin = strings.NewReader(input)
	output, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return response{}, fmt.Errorf("%w: %s", exit, exit.Stderr)
	}
	if err != nil {
		return response{}, err
	}
	body, status, _ := strings.Cut(string(output), "\nHTTP ")
	code, err := strconv.Atoi(status)
	fmt.Printf("HTTP %d\n%s\n", code, indented([]byte(body)))
	return response{code, []byte(body)}, err
}

// tokenAnswer is what the token endpoint says.
type tokenAnswer struct {
	status      int
	AccessToken string `json:"access_token"`
	Error       string `json:"error"`
}

// requestToken gives the credential to curl by standard input, as others can see a
// command line.
func (s *story) requestToken() (tokenAnswer, error) {
	credential := fmt.Sprintf("user = \"%s:%s\"\n", s.secret["client_id"], s.secret["client_secret"])
	r, err := s.curl(credential, "--config", "-", "--data", "grant_type=client_credentials", s.secret["token_url"])
	if err != nil {
		return tokenAnswer{}, err
	}
	answer := tokenAnswer{status: r.status}
	return answer, json.Unmarshal(r.body, &answer)
}
