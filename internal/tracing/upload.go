package tracing

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	collector "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// uploader speaks OTLP over HTTP. OpenTelemetry's own clients, the one for HTTP too, bring
// gRPC into the binary, and these few lines don't.
type uploader struct {
	url    string
	client *http.Client
	pause  time.Duration // before a second attempt; doubled before each further one
}

// attempts is how often a batch is sent that the collector can't take at present.
const attempts = 3

// maxAnswer bounds what is read of an answer, in bytes, so that its connection can be used again.
const maxAnswer = 64 << 10

func newUploader(endpoint string, tlsConfig *tls.Config) *uploader {
	return &uploader{
		url:   strings.TrimSuffix(endpoint, "/") + "/v1/traces",
		pause: time.Second,
		client: &http.Client{
			Timeout: exportTimeout,
			Transport: &http.Transport{
				Proxy:               http.ProxyFromEnvironment,
				DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
				TLSClientConfig:     tlsConfig,
				TLSHandshakeTimeout: 5 * time.Second,
				ForceAttemptHTTP2:   true,
				IdleConnTimeout:     time.Minute,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Start implements otlptrace.Client.
func (*uploader) Start(context.Context) error { return nil }

// Stop implements otlptrace.Client.
func (u *uploader) Stop(context.Context) error {
	u.client.CloseIdleConnections()
	return nil
}

// UploadTraces implements otlptrace.Client.
func (u *uploader) UploadTraces(ctx context.Context, spans []*collector.ResourceSpans) error {
	// On the wire it is the same as an ExportTraceServiceRequest.
	body, err := proto.Marshal(&collector.TracesData{ResourceSpans: spans})
	if err != nil {
		return err
	}
	pause := u.pause
	for attempt := 1; ; attempt++ {
		again, err := u.send(ctx, body)
		if err == nil || !again || attempt == attempts {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(pause):
			pause *= 2
		}
	}
}

// send tells whether to send again what wasn't taken.
func (u *uploader) send(ctx context.Context, body []byte) (again bool, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, u.url, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	request.Header.Set("Content-Type", "application/x-protobuf")
	response, err := u.client.Do(request)
	if err != nil {
		return true, err
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, maxAnswer))
	switch response.StatusCode {
	case http.StatusOK, http.StatusAccepted:
		return false, nil
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true, fmt.Errorf("the collector answered %s", response.Status)
	}
	return false, fmt.Errorf("the collector answered %s", response.Status)
}
