package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// stuck is how long after its end a load may wait for an answer.
const stuck = 10 * time.Second

// load asks a server for tokens, of all clients in turn, and counts them.
type load struct {
	*server
	deadline     time.Time
	next, tokens atomic.Int64
}

// run asks for so many tokens at a time. Any other answer is an error.
func (l *load) run(connections int) error {
	var group sync.WaitGroup
	errs := make([]error, connections)
	for i := range connections {
		group.Go(func() {
			for errs[i] == nil && time.Now().Before(l.deadline) {
				errs[i] = l.runConnection()
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// runConnection asks over one connection: until the deadline, or with TLS once.
func (l *load) runConnection() error {
	conn, err := l.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(l.deadline.Add(stuck)); err != nil {
		return err
	}
	answers := bufio.NewReader(conn)
	for {
		if err := l.ask(conn, answers); err != nil {
			return err
		}
		l.tokens.Add(1)
		if l.TLS {
			return awaitEnd(answers)
		}
		if !time.Now().Before(l.deadline) {
			return nil
		}
	}
}

// awaitEnd waits for the server to close the connection, so that nothing is left of it
// at this end: there are only so many ports.
func awaitEnd(r *bufio.Reader) error {
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("the server did not close the connection: %w", err)
	}
	return nil
}

// clientTLS doesn't care who the server is: that isn't measured.
var clientTLS = &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true}

func (s *server) dial() (net.Conn, error) {
	conn, err := net.Dial("tcp", s.address)
	if err != nil || !s.TLS {
		return conn, err
	}
	return tls.Client(conn, clientTLS), nil
}

func (l *load) ask(conn net.Conn, answers *bufio.Reader) error {
	r, err := l.method.request(int(l.next.Add(1)) % l.Clients)
	if err != nil {
		return err
	}
	if _, err := conn.Write(r.append(nil, l.TLS)); err != nil {
		return err
	}
	status, body, err := readAnswer(answers)
	if err != nil {
		return err
	}
	if status != "HTTP/1.1 200 OK" || !bytes.Contains(body, []byte(`"access_token":"ey`)) {
		return fmt.Errorf("no token but %s: %s", status, body)
	}
	return nil
}

// append appends the request as it is sent; last asks the server to close the connection.
func (r *request) append(dst []byte, last bool) []byte {
	dst = append(dst, "POST /v1/public/"+projectID+"/oauth2/token HTTP/1.1\r\nHost: auth.example.com\r\n"...)
	dst = append(dst, "User-Agent: bench\r\nAccept: application/json\r\n"...)
	if r.authorization != "" {
		dst = append(dst, "Authorization: "+r.authorization+"\r\n"...)
	}
	if last {
		dst = append(dst, "Connection: close\r\n"...)
	}
	dst = append(dst, "Content-Type: "+r.contentType+"\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(r.body)), 10)
	dst = append(dst, "\r\n\r\n"...)
	return append(dst, r.body...)
}

// readAnswer reads one answer, and no more of HTTP than it has to, so that the load
// generator is never what is measured. The body is valid until the next one.
func readAnswer(r *bufio.Reader) (status string, body []byte, err error) {
	length := 0
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return status, nil, err
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
				return status, nil, err
			}
		}
	}
	if body, err = r.Peek(length); err == nil {
		_, err = r.Discard(length)
	}
	return status, body, err
}
