package integration

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/m2m-operator/m2m-operator/test/eventually"
)

// A request that has begun when a server is told to stop gets its answer.
func TestGracefulShutdown(t *testing.T) {
	t.Parallel()
	secret := shared.secret(t, shared.readyClient(t, nil))
	shared.waitAccepted(t, secret)
	replica, err := shared.AddServer(t.Context(), filepath.Join(t.TempDir(), "audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	tokenURL, err := url.Parse(string(secret.Data["token_url"]))
	if err != nil {
		t.Fatal(err)
	}
	address, err := url.Parse(replica.URL)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", address.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {string(secret.Data["client_id"])}, "client_secret": {string(secret.Data["client_secret"])},
	}.Encode()
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", tokenURL.Path, address.Host, len(body))
	// The server asks for the body when it has begun to read it.
	reader := bufio.NewReader(conn)
	if line, err := reader.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if _, err := reader.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(replica.PID, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually.Right(t, func() string {
		if again, err := net.Dial("tcp", address.Host); err == nil {
			_ = again.Close()
			return "it still takes connections"
		}
		return ""
	})
	if _, err := io.WriteString(conn, body); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("HTTP %d", response.StatusCode)
	}
	<-replica.Done()
}
