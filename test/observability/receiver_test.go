package observability

import (
	"bytes"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// receiver is an OpenTelemetry collector that keeps what it gets.
type receiver struct {
	*httptest.Server

	mu    sync.Mutex
	raw   bytes.Buffer
	spans []span
}

// span is what tests look at.
type span struct {
	service, name, trace, id, parent string
	attributes                       map[string]string
}

func newReceiver() *receiver {
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(r.take))
	return r
}

func (r *receiver) take(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	data := &tracepb.TracesData{}
	if err == nil {
		err = proto.Unmarshal(body, data)
	}
	if err != nil || request.URL.Path != "/v1/traces" {
		http.Error(w, "not OTLP", http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.raw.Write(body)
	for _, resource := range data.ResourceSpans {
		service := attributes(resource.Resource.Attributes)["service.name"]
		for _, scope := range resource.ScopeSpans {
			for _, s := range scope.Spans {
				r.spans = append(r.spans, span{
					service: service, name: s.Name, trace: hex.EncodeToString(s.TraceId),
					id: hex.EncodeToString(s.SpanId), parent: hex.EncodeToString(s.ParentSpanId), attributes: attributes(s.Attributes),
				})
			}
		}
	}
}

func attributes(pairs []*commonpb.KeyValue) map[string]string {
	all := map[string]string{}
	for _, pair := range pairs {
		all[pair.Key] = pair.Value.GetStringValue()
	}
	return all
}

// find returns the spans that match.
func (r *receiver) find(matches func(span) bool) []span {
	r.mu.Lock()
	all := slices.Clone(r.spans)
	r.mu.Unlock() // who matches may look for others
	return slices.DeleteFunc(all, func(s span) bool { return !matches(s) })
}

// bytes are all that was ever sent.
func (r *receiver) bytes() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Clone(r.raw.Bytes())
}
