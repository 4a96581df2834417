package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// projectID is that of the one issuer of the benchmark.
const projectID = "project-live-00000000-0000-4000-8000-000000000000"

// credentialOf gives the n-th client, the same in all processes.
func credentialOf(n int) (clientID, secret string) {
	sum := sha256.Sum256([]byte("client " + strconv.Itoa(n)))
	digits := hex.EncodeToString(sum[:])
	return "m2m-client-live-" + digits[:8] + "-" + digits[8:12] + "-4" + digits[13:16] + "-8" + digits[17:20] + "-" + digits[20:32],
		"S" + digits[:42]
}

// load asks for tokens over keep-alive connections, of all clients in turn, and
// returns how many it got. Any other answer is an error.
func load(address string, clients, connections int, length time.Duration) (int64, error) {
	var (
		tokens, next atomic.Int64
		group        sync.WaitGroup
		errs         = make([]error, connections)
		deadline     = time.Now().Add(length)
	)
	for i := range connections {
		group.Go(func() {
			errs[i] = loadOne(address, deadline, &tokens, func() int { return int(next.Add(1)) % clients })
		})
	}
	group.Wait()
	return tokens.Load(), errors.Join(errs...)
}

func loadOne(address string, deadline time.Time, tokens *atomic.Int64, next func() int) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	var request []byte
	for time.Now().Before(deadline) {
		request = appendRequest(request[:0], next())
		if _, err := conn.Write(request); err != nil {
			return err
		}
		if err := readToken(answers); err != nil {
			return err
		}
		tokens.Add(1)
	}
	return nil
}

func appendRequest(dst []byte, n int) []byte {
	clientID, secret := credentialOf(n)
	body := "grant_type=client_credentials&client_id=" + clientID + "&client_secret=" + secret + "&scope=read%3Asettings"
	dst = append(dst, "POST /v1/public/"+projectID+"/oauth2/token HTTP/1.1\r\nHost: auth.example.com\r\n"...)
	dst = append(dst, "User-Agent: bench\r\nAccept: application/json\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(body)), 10)
	dst = append(dst, "\r\n\r\n"...)
	return append(dst, body...)
}

// readToken reads one answer, and no more of HTTP than it has to, so that the load
// generator is never what is measured.
func readToken(r *bufio.Reader) error {
	length, status := 0, ""
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		line = bytes.TrimRight(line, "\r\n")
		if status == "" {
			status = string(line)
			continue
		}
		if len(line) == 0 {
			break
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(value)); err != nil {
				return err
			}
		}
	}
	body, err := r.Peek(length)
	if err != nil {
		return err
	}
	if status != "HTTP/1.1 200 OK" || !bytes.Contains(body, []byte(`"access_token":"ey`)) {
		return fmt.Errorf("no token but %s: %s", status, body)
	}
	_, err = r.Discard(length)
	return err
}
