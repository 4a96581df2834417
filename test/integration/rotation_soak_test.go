package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/eventually"
	"github.com/m2m-operator/m2m-operator/test/installation"
)

const (
	soakClients   = 100
	soakRotations = 10
	soakServers   = 3
	soakKept      = 5 // versions that may be valid before the oldest is revoked
	soakReported  = 5 // details of what failed
)

// Pods that hold stale secrets get a token whenever they ask, while all clients are
// rotated again and again, the controller is killed in the middle of it, and the
// servers are restarted.
func TestRotationUnderLoad(t *testing.T) {
	begun := time.Now()
	s := newSoak(t)
	stop := s.runPods(t)
	defer stop()
	for n := range soakRotations {
		s.rotateAll(t, n)
	}
	s.waitUsed(t)
	stop()
	s.checkDelivered(t)
	s.checkAnswers(t)
	t.Logf("%d tokens to %d pods, none refused; %d rotations; the controller killed %d times, %d versions that it made lost with it; servers restarted %d times, %d requests asked again; %.0f s",
		s.tokens.Load(), len(s.pods), soakClients*soakRotations, s.kills.Load(), s.lost(t), s.restarts.Load(), s.retries.Load(), time.Since(begun).Seconds())
}

// soak is an installation with pods that use it.
type soak struct {
	*operator
	namespace string
	replicas  []*replica
	pods      []*pod
	delivered *deliveries

	tokens, retries, kills, restarts atomic.Int64

	mu       sync.Mutex
	failures []failure
}

// replica is a token server that may be restarted.
type replica struct {
	server
	epoch atomic.Int64 // odd while it is restarted
}

// pod holds a copy of a Secret, as old as a mounted one may be.
type pod struct {
	name    string
	refresh time.Duration
	copied  atomic.Pointer[corev1.Secret]
	used    atomic.Pointer[corev1.Secret] // the last that a token was got with
}

// failure is an answer that no pod should get.
type failure struct {
	pod, version string
	replica      *replica
	answer       answer
	err          error
}

func newSoak(t *testing.T) *soak {
	t.Helper()
	o := ownInstallation(t, installation.Options{
		Servers: soakServers,
		// A killed leader's lease is held for 15 s more.
		ControllerArgs: []string{"--propagation-delay=500ms", "--leader-elect=false"},
	})
	s := &soak{operator: o, namespace: o.namespace(t)}
	for _, server := range o.servers() {
		s.replicas = append(s.replicas, &replica{server: server})
	}
	s.delivered = watchDeliveries(t, o, s.namespace)
	for n := range soakClients {
		s.pods = append(s.pods, &pod{
			name:    fmt.Sprintf("client-%03d", n),
			refresh: between(200*time.Millisecond, 1500*time.Millisecond),
		})
		s.newClient(t, s.namespace, s.pods[n].name, nil)
	}
	s.waitSettled(t, "")
	return s
}

func between(least, most time.Duration) time.Duration { return least + rand.N(most-least) }

// runPods runs the pods until stop is called.
func (s *soak) runPods(t *testing.T) (stop func()) {
	t.Helper()
	for _, p := range s.pods {
		secret := &corev1.Secret{}
		if err := s.Get(t.Context(), client.ObjectKey{Namespace: s.namespace, Name: p.name}, secret); err != nil {
			t.Fatal(err)
		}
		s.waitAccepted(t, secret)
		p.copied.Store(secret)
		p.used.Store(secret)
	}
	ctx, cancel := context.WithCancel(t.Context())
	caller := &http.Client{Timeout: eventually.Patience, Transport: &http.Transport{MaxIdleConnsPerHost: soakClients}}
	var group sync.WaitGroup
	for _, p := range s.pods {
		group.Go(func() { s.run(ctx, caller, p) })
	}
	return func() { cancel(); group.Wait(); caller.CloseIdleConnections() }
}

// run is the life of a pod: get a token, do something else, get a token.
func (s *soak) run(ctx context.Context, caller *http.Client, p *pod) {
	fresh := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(between(500*time.Millisecond, 1000*time.Millisecond)):
		}
		if time.Since(fresh) >= p.refresh {
			s.copySecret(ctx, p)
			fresh = time.Now()
		}
		s.getToken(ctx, caller, p)
	}
}

// copySecret brings a pod's copy up to date, if it can, as a kubelet does.
func (s *soak) copySecret(ctx context.Context, p *pod) {
	secret := &corev1.Secret{}
	if err := s.Get(ctx, client.ObjectKey{Namespace: s.namespace, Name: p.name}, secret); err == nil {
		p.copied.Store(secret)
	}
}

// getToken asks replicas until one answers that isn't just being restarted.
func (s *soak) getToken(ctx context.Context, caller *http.Client, p *pod) {
	secret := p.copied.Load()
	for ctx.Err() == nil {
		r, epoch := s.pick()
		a, err := r.ask(ctx, caller, secret)
		switch {
		case err == nil && a.status == http.StatusOK:
			s.tokens.Add(1)
			p.used.Store(secret)
			return
		case ctx.Err() != nil:
			return
		case (err != nil || a.status == http.StatusServiceUnavailable) && r.epoch.Load() != epoch:
			s.retries.Add(1)
		default:
			s.fail(failure{p.name, versionIn(secret), r, a, err})
			return
		}
	}
}

// pick chooses a replica by chance, of those that nobody is restarting.
func (s *soak) pick() (*replica, int64) {
	for {
		r := s.replicas[rand.N(len(s.replicas))]
		if epoch := r.epoch.Load(); epoch%2 == 0 {
			return r, epoch
		}
	}
}

func (r *replica) ask(ctx context.Context, caller *http.Client, secret *corev1.Secret) (answer, error) {
	u, err := url.Parse(string(secret.Data["token_url"]))
	if err != nil {
		return answer{}, err
	}
	form := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {string(secret.Data["client_id"])}, "client_secret": {string(secret.Data["client_secret"])},
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL+u.Path, strings.NewReader(form.Encode()))
	if err != nil {
		return answer{}, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := caller.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	a := answer{status: response.StatusCode}
	var raw json.RawMessage
	if err := json.NewDecoder(response.Body).Decode(&raw); err != nil {
		return a, err
	}
	a.body = string(raw)
	return a, json.Unmarshal(raw, &a)
}

func (s *soak) fail(f failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures = append(s.failures, f)
}

func versionIn(s *corev1.Secret) string { return s.Annotations[v1alpha1.AnnotationVersion] }

// numberOf is the number of a version such as 3-x8Fa.
func numberOf(t *testing.T, version string) int {
	t.Helper()
	var number int
	if _, err := fmt.Sscanf(version, "%d-", &number); err != nil {
		t.Fatalf("version %q: %v", version, err)
	}
	return number
}

// rotateAll asks for a rotation of every client, and waits until all have ended.
// Meanwhile a server is restarted or the controller killed, in turn.
func (s *soak) rotateAll(t *testing.T, n int) {
	t.Helper()
	trigger := fmt.Sprintf("rotation %d", n+1)
	patches := s.patches(t, trigger)
	var group errgroup.Group
	group.Go(func() error { return s.apply(t.Context(), patches) })
	group.Go(func() error {
		time.Sleep(between(200*time.Millisecond, 1500*time.Millisecond))
		if n%2 == 0 {
			return s.restartServer(t.Context(), n/2%len(s.replicas))
		}
		return s.crashController(t.Context())
	})
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	s.waitSettled(t, trigger)
}

func (s *soak) restartServer(ctx context.Context, n int) error {
	s.replicas[n].epoch.Add(1)
	if err := s.RestartServer(ctx, n); err != nil {
		return err
	}
	s.replicas[n].epoch.Add(1)
	s.restarts.Add(1)
	return nil
}

func (s *soak) crashController(ctx context.Context) error {
	if err := s.KillController(); err != nil {
		return err
	}
	s.kills.Add(1)
	return s.StartController(ctx)
}

// patch is a change of a client.
type patch struct {
	to   *v1alpha1.M2MClient
	from client.Patch
}

// patches ask for a rotation of every client. Versions that no pod needs are given
// up: more than eight can't be valid.
func (s *soak) patches(t *testing.T, trigger string) []patch {
	t.Helper()
	var all []patch
	for i, c := range s.clients(t) {
		p := patch{&c, client.MergeFrom(c.DeepCopy())}
		rotation(&c).Trigger = trigger
		rotation(&c).Revoke = append(rotation(&c).Revoke, unused(t, &c, versionIn(s.pods[i].copied.Load()))...)
		all = append(all, p)
	}
	return all
}

func (s *soak) apply(ctx context.Context, patches []patch) error {
	var group errgroup.Group
	group.SetLimit(8)
	for _, p := range patches {
		group.Go(func() error { return s.Patch(ctx, p.to, p.from) })
	}
	return group.Wait()
}

// unused returns the oldest version, if there are many, and the pod has a later one.
func unused(t *testing.T, c *v1alpha1.M2MClient, held string) []v1alpha1.SecretVersion {
	t.Helper()
	versions := c.Status.Credentials
	if len(versions) < soakKept {
		return nil
	}
	oldest := versions[len(versions)-1].Version
	if numberOf(t, oldest) >= numberOf(t, held) {
		return nil
	}
	return []v1alpha1.SecretVersion{v1alpha1.SecretVersion(oldest)}
}

// clients lists the clients by name: in the order of their pods.
func (s *soak) clients(t *testing.T) []v1alpha1.M2MClient {
	t.Helper()
	list := &v1alpha1.M2MClientList{}
	if err := s.List(t.Context(), list, client.InNamespace(s.namespace)); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(list.Items, func(a, b v1alpha1.M2MClient) int { return strings.Compare(a.Name, b.Name) })
	return list.Items
}

// waitSettled waits until every client is ready after a trigger.
func (s *soak) waitSettled(t *testing.T, trigger string) {
	t.Helper()
	for _, p := range s.pods {
		c := &v1alpha1.M2MClient{}
		c.Namespace, c.Name = s.namespace, p.name
		eventually.Right(t, func() string {
			if s.refresh(t, c); !settledAfter(c, trigger) {
				return fmt.Sprintf("%s after %q: versions %s, triggers %+v, %+v", c.Name, trigger, roles(c), c.Status.ObservedTriggers, c.Status.Conditions)
			}
			return ""
		})
	}
}

func settledAfter(c *v1alpha1.M2MClient, trigger string) bool {
	ready := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionReady)
	if ready == nil || ready.Reason != v1alpha1.ReasonIssued || ready.ObservedGeneration != c.Generation {
		return false
	}
	return trigger == "" || c.Status.ObservedTriggers != nil && c.Status.ObservedTriggers.Spec == trigger
}

// waitUsed waits until every pod has got a token with the last secret.
func (s *soak) waitUsed(t *testing.T) {
	t.Helper()
	clients := s.clients(t)
	eventually.Right(t, func() string {
		for i, p := range s.pods {
			if used, current := versionIn(p.used.Load()), clients[i].Status.Credentials[0].Version; used != current {
				return fmt.Sprintf("the pod of %s uses version %s, and %s is current", p.name, used, current)
			}
		}
		return ""
	})
}

// lost counts the versions that were made and never delivered.
func (s *soak) lost(t *testing.T) int64 {
	t.Helper()
	var lost int64
	for _, c := range s.clients(t) {
		lost += c.Status.LastVersionNumber - soakRotations - 1
	}
	return lost
}

// checkDelivered: a crash makes no rotation more than were asked for.
func (s *soak) checkDelivered(t *testing.T) {
	t.Helper()
	const want = soakRotations + 1
	wrong := 0
	for _, p := range s.pods {
		var versions []string
		eventually.Right(t, func() string { // the last comes by the watch too
			var err error
			if versions, err = s.delivered.of(p.name); err != nil || len(versions) < want {
				return fmt.Sprintf("the Secret of %s had versions %s, %v", p.name, strings.Join(versions, " "), err)
			}
			return ""
		})
		if len(versions) == want {
			continue
		}
		if wrong++; wrong <= soakReported {
			t.Errorf("the Secret of %s had %d secrets, not %d: versions %s", p.name, len(versions), want, strings.Join(versions, " "))
		}
	}
	if wrong > 0 {
		t.Errorf("%d Secrets had other secrets than were asked for", wrong)
	}
}

// checkAnswers reports the first answers that pods should not have got.
func (s *soak) checkAnswers(t *testing.T) {
	t.Helper()
	if s.tokens.Load() < soakClients*soakRotations {
		t.Errorf("only %d tokens: that is no load", s.tokens.Load())
	}
	for _, f := range s.failures[:min(len(s.failures), soakReported)] {
		t.Errorf("%s with version %s at %s: HTTP %d %s, %v; audit log: %s",
			f.pod, f.version, f.replica.URL, f.answer.status, f.answer.body, f.err, auditLine(f.replica.Audit, f.answer.RequestID))
	}
	if n := len(s.failures); n > 0 {
		t.Fatalf("%d requests failed, and %d got a token", n, s.tokens.Load())
	}
}

// auditLine finds what a replica's operator is told of a request.
func auditLine(file, requestID string) string {
	log, err := os.Open(file)
	if err != nil {
		return err.Error()
	}
	defer log.Close()
	for lines := bufio.NewScanner(log); lines.Scan(); {
		if requestID != "" && strings.Contains(lines.Text(), requestID) {
			return lines.Text()
		}
	}
	return "nothing"
}

// deliveries are the secrets that Secrets ever held, each with its version.
type deliveries struct {
	mu       sync.Mutex
	byClient map[string]map[string]string
	err      error
}

func watchDeliveries(t *testing.T, o *operator, namespace string) *deliveries {
	t.Helper()
	events, err := o.Watch(t.Context(), &corev1.SecretList{}, client.InNamespace(namespace))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(events.Stop)
	d := &deliveries{byClient: map[string]map[string]string{}}
	go func() {
		for event := range events.ResultChan() {
			d.add(event)
		}
		d.add(watch.Event{Type: watch.Error})
	}()
	return d
}

func (d *deliveries) add(event watch.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	secret, ok := event.Object.(*corev1.Secret)
	if !ok {
		d.err = fmt.Errorf("the watch of Secrets ended: %v", event.Object)
		return
	}
	if d.byClient[secret.Name] == nil {
		d.byClient[secret.Name] = map[string]string{}
	}
	d.byClient[secret.Name][string(secret.Data["client_secret"])] = versionIn(secret)
}

// of lists the versions that a client's Secret had.
func (d *deliveries) of(name string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Values(d.byClient[name])), d.err
}
