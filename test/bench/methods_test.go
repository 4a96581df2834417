package main

import (
	"bufio"
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"
)

// A floor that believes everybody would be no floor.
func TestServersAuthenticate(t *testing.T) {
	matches, err := methodMatches()
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := methodMatches() // with other keys
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range matches {
		for _, s := range []setup{m.floor, m.ours} {
			t.Run(s.Kind+" "+m.name, func(t *testing.T) {
				server, err := s.newServer()
				if err != nil {
					t.Fatal(err)
				}
				right, err := m.method.request(0)
				if err != nil {
					t.Fatal(err)
				}
				if status := post(t, server.Handler, right); status != http.StatusOK {
					t.Errorf("the client got %d", status)
				}
				wrong, err := foreign[i].method.request(0)
				if err != nil {
					t.Fatal(err)
				}
				if s.Method == bySecretPost || s.Method == bySecretJSON || s.Method == bySecretBasic {
					if wrong, err = m.method.request(1); err != nil { // a client that isn't there
						t.Fatal(err)
					}
				}
				if status := post(t, server.Handler, wrong); status != http.StatusUnauthorized {
					t.Errorf("somebody else got %d", status)
				}
			})
		}
	}
}

// What refusals are timed with is refused for the reason that it stands for.
func TestRefusals(t *testing.T) {
	if _, err := (probing{times: 20, clients: 3}).timeDecisions(); err != nil {
		t.Error(err)
	}
}

func post(t *testing.T, handler http.Handler, r request) int {
	t.Helper()
	parsed, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(r.append(nil, false))))
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, parsed)
	return w.Code
}
