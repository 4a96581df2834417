package tracing

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

var quiet = slog.New(slog.DiscardHandler)

func TestCheck(t *testing.T) {
	for _, test := range []struct {
		options Options
		ok      bool
	}{
		{Options{}, true},
		{Options{Ratio: 1}, true},
		{Options{Ratio: 1.1}, false},
		{Options{Ratio: -0.1}, false},
		{Options{Endpoint: "https://collector:4318"}, true},
		{Options{Endpoint: "https://collector:4318/prefix/"}, true},
		{Options{Endpoint: "http://127.0.0.1:4318"}, true},
		{Options{Endpoint: "http://[::1]:4318"}, true},
		{Options{Endpoint: "http://localhost:4318"}, true},
		{Options{Endpoint: "http://collector:4318"}, false},
		{Options{Endpoint: "http://127.0.0.1.example.com:4318"}, false},
		{Options{Endpoint: "http://collector:4318", Insecure: true}, true},
		{Options{Endpoint: "collector:4317"}, false},
		{Options{Endpoint: "grpc://collector:4317"}, false},
		{Options{Endpoint: "https://user:secret@collector"}, false},
		{Options{Endpoint: "https://collector/?a=b"}, false},
	} {
		if err := test.options.Check(); (err == nil) != test.ok {
			t.Errorf("%+v: %v", test.options, err)
		} else if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%v quotes the URL", err)
		}
	}
	if tracer, err := Start(Options{}, "service", "v", quiet); tracer != nil || err != nil {
		t.Errorf("%v, %v: without an endpoint there is nothing to start", tracer, err)
	}
	if _, err := Start(Options{Endpoint: "https://collector", CAFile: "/nowhere"}, "service", "v", quiet); err == nil {
		t.Error("a file that isn't there was taken")
	}
}

// A tracer that is off changes nothing.
func TestOff(t *testing.T) {
	var off *Tracer
	if off.Kubernetes(http.DefaultTransport) != http.DefaultTransport {
		t.Error("another transport")
	}
	served := false
	off.Handler("x", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served = true })).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	if off.Stop(); !served {
		t.Error("not served")
	}
}

// sink is a collector.
type sink struct {
	*httptest.Server
	mu       sync.Mutex
	statuses []int // to answer, before it takes anything
	requests int
	spans    []*collector.Span
	raw      strings.Builder
}

func newSink(t *testing.T, statuses ...int) *sink {
	t.Helper()
	s := &sink{statuses: statuses}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.requests++
		if len(s.statuses) > 0 {
			w.WriteHeader(s.statuses[0])
			s.statuses = s.statuses[1:]
			return
		}
		body, _ := io.ReadAll(r.Body)
		s.raw.Write(body)
		data := &collector.TracesData{}
		if err := proto.Unmarshal(body, data); err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
			t.Errorf("%s: not OTLP: %v", r.URL, err)
		}
		for _, resource := range data.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				s.spans = append(s.spans, scope.Spans...)
			}
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// tracer sends to the sink; what it has seen is there after Stop.
func (s *sink) tracer(t *testing.T, o Options) *Tracer {
	t.Helper()
	o.Endpoint = s.URL
	tracer, err := Start(o, "m2m-operator-test", "v1", quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tracer.Stop)
	return tracer
}

const (
	foreignTrace  = "abababababababababababababababab"
	foreignParent = "00-" + foreignTrace + "-cdcdcdcdcdcdcdcd-01"
)

func request(traceparent ...string) *http.Request {
	r := httptest.NewRequest("INVENTED", "https://server/a-strangers-path?secret=1", nil)
	r.Header["Traceparent"] = traceparent
	r.Header["Tracestate"] = []string{"a-strangers=state"}
	r.Header["User-Agent"] = []string{"a-strangers-agent"}
	return r
}

// Who may not decide whether a request is followed can't, by no header; who is trusted can.
func TestSampling(t *testing.T) {
	unsampled := strings.TrimSuffix(foreignParent, "1") + "0"
	for _, test := range []struct {
		name              string
		options           Options
		trusted           bool
		header            []string
		followed, foreign bool
	}{
		{"a stranger asks for it", Options{}, false, []string{foreignParent}, false, false},
		{"a stranger asks not to", Options{Ratio: 1}, false, []string{unsampled}, true, false},
		{"all", Options{Ratio: 1}, false, nil, true, false},
		{"another role asks for it", Options{}, true, []string{foreignParent}, true, true},
		{"another role says not to", Options{Ratio: 1}, true, []string{unsampled}, false, true},
		{"another role says nothing", Options{Ratio: 1}, true, nil, true, false},
		{"callers are trusted", Options{TrustCallers: true}, false, []string{foreignParent}, true, true},
		{"two headers", Options{TrustCallers: true}, false, []string{foreignParent, foreignParent}, false, false},
		{"nonsense", Options{TrustCallers: true}, false, []string{"00-nonsense"}, false, false},
	} {
		tracer := newSink(t).tracer(t, test.options)
		ctx, span := tracer.Request(request(test.header...), "token", test.trusted)
		if (span != nil) != test.followed {
			t.Errorf("%s: followed: %t", test.name, span != nil)
		}
		if span != nil {
			span.Answer("token", "", "", "", 200)
		}
		var sent http.Header
		transport := tracer.Kubernetes(roundTripper(func(r *http.Request) (*http.Response, error) {
			sent = r.Header
			return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
		}))
		r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://kubernetes/api/v1/namespaces/n/secrets/name", nil)
		response, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if passed := sent.Get("Traceparent"); strings.Contains(passed, foreignTrace) != test.foreign || strings.HasSuffix(passed, "-01") != test.followed {
			t.Errorf("%s: %q is told to others", test.name, passed)
		}
		if sent.Get("Tracestate") != "" || r.Header.Get("Traceparent") != "" {
			t.Errorf("%s: a stranger's state is passed on, or the caller's request was changed", test.name)
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// What is sent is a tree, and has nothing that a stranger wrote.
func TestSpans(t *testing.T) {
	s := newSink(t)
	tracer := s.tracer(t, Options{Ratio: 1})
	broken := tracer.Kubernetes(roundTripper(func(*http.Request) (*http.Response, error) {
		return nil, errors.New("an-error-that-quotes-a-secret")
	}))
	ask := func(r *http.Request) {
		if response, err := broken.RoundTrip(r); err == nil {
			_ = response.Body.Close()
			t.Error("no error")
		}
	}
	ctx, span := tracer.Request(request(foreignParent), "token", false)
	r, _ := http.NewRequestWithContext(ctx, http.MethodPatch, "https://kubernetes/apis/m2m-operator.dev/v1alpha1/namespaces/a-strangers-namespace/m2mclients/a-strangers-name/status", nil)
	ask(r)
	span.Answer("token", "default", strings.Repeat("i", 2*maxValue), "issued", 500)

	_, work := tracer.Work(t.Context(), "reconcile m2mclient", "namespace", "name")
	work.Done(errors.New("an-error-that-quotes-a-secret"))
	tracer.Handler("management forward", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })).
		ServeHTTP(httptest.NewRecorder(), request(foreignParent))
	ask(httptest.NewRequest(http.MethodGet, "https://kubernetes/api/v1/secrets", nil)) // of nothing that is followed
	tracer.Stop()

	var names []string
	for _, sp := range s.spans {
		names = append(names, sp.Name)
	}
	slices.Sort(names)
	if want := []string{"PATCH m2mclients/status", "management forward", "reconcile m2mclient", "token"}; !slices.Equal(names, want) {
		t.Errorf("%q, not %q", names, want)
	}
	for _, sp := range s.spans {
		if sp.Name == "PATCH m2mclients/status" && (string(sp.ParentSpanId) == "" || len(sp.TraceId) != 16) {
			t.Error("the call is not part of the request")
		}
	}
	for _, text := range []string{"stranger", "quotes-a-secret", "INVENTED", foreignTrace, strings.Repeat("i", maxValue+1)} {
		if strings.Contains(s.raw.String(), text) {
			t.Errorf("%q is in what was sent", text)
		}
	}
}

func TestKubernetesCall(t *testing.T) {
	for path, want := range map[string]string{
		"/api/v1/namespaces/n/secrets":                                        "GET secrets",
		"/api/v1/namespaces/n/secrets/name":                                   "GET secrets",
		"/api/v1/namespaces/n":                                                "GET namespaces",
		"/api/v1/namespaces":                                                  "GET namespaces",
		"/apis/m2m-operator.dev/v1alpha1/m2mclients":                          "GET m2mclients",
		"/apis/m2m-operator.dev/v1alpha1/namespaces/n/m2mclients/name/status": "GET m2mclients/status",
		"/apis/m2m-operator.dev/v1alpha1/clusterm2missuers/name/status":       "GET clusterm2missuers/status",
		"/apis/authentication.k8s.io/v1/tokenreviews":                         "GET tokenreviews",
		"/version": "GET other", "/": "GET other", "/api": "GET other", "/apis/g/v1": "GET other",
	} {
		if got := kubernetesCall(httptest.NewRequest(http.MethodGet, "https://kubernetes"+path, nil)); got != want {
			t.Errorf("%s: %q, not %q", path, got, want)
		}
	}
}

// What the collector can't take at present is sent again, a few times; what it refuses isn't.
func TestUpload(t *testing.T) {
	for _, test := range []struct {
		statuses []int
		requests int
		ok       bool
	}{
		{nil, 1, true},
		{[]int{503, 429}, 3, true},
		{[]int{503, 502, 504}, 3, false},
		{[]int{400}, 1, false},
		{[]int{302}, 1, false},
	} {
		s := newSink(t, test.statuses...)
		u := newUploader(s.URL+"/", nil)
		u.pause = 1
		err := u.UploadTraces(t.Context(), []*collector.ResourceSpans{{}})
		if (err == nil) != test.ok || s.requests != test.requests {
			t.Errorf("%v: %v after %d requests", test.statuses, err, s.requests)
		}
		if err := u.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// BenchmarkRequest is what following costs a request: of those that aren't followed at the
// default ratio, and of those that are.
func BenchmarkRequest(b *testing.B) {
	for name, ratio := range map[string]float64{"1": 1, "0.01": 0.01} {
		b.Run(name, func(b *testing.B) {
			collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
			defer collector.Close()
			tracer, err := Start(Options{Endpoint: collector.URL, Ratio: ratio}, "service", "v", quiet)
			if err != nil {
				b.Fatal(err)
			}
			defer tracer.Stop()
			r := httptest.NewRequest(http.MethodPost, "/", nil)
			b.ReportAllocs()
			for b.Loop() {
				ctx, span := tracer.Request(r, "token", false)
				_ = r.WithContext(ctx)
				if span != nil {
					span.Answer("token", "default", "m2m-client-test-22222222-2222-4222-8222-222222222222", "issued", 200)
				}
			}
		})
	}
}
