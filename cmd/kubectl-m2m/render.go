package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/ownership"
)

// render writes the page about a client. All that tenants wrote is cleaned: it may not
// speak to the terminal.
func render(v view, now time.Time, colours bool) string {
	p := &page{colours: colours}
	p.identity(v.client)
	p.condition(v.client)
	p.access(v.client)
	p.rotation(v.client, now)
	p.versions(v.client, now)
	p.workloads(v.client, now)
	p.managers(v.client)
	p.events(v, now)
	return p.String()
}

// page is text of at most 80 columns, as far as its words allow.
type page struct {
	strings.Builder
	colours bool
}

const (
	columns    = 80
	labelWidth = 16
)

// Colours of a terminal.
const (
	bold   = "1"
	red    = "31"
	green  = "32"
	yellow = "33"
)

func (p *page) paint(colour, text string) string {
	if !p.colours || colour == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// field writes a labelled text, wrapped beside its label; nothing where there is none.
func (p *page) field(label, text string) { p.painted(label, "", text) }

func (p *page) painted(label, colour, text string) {
	if text == "" {
		return
	}
	for _, line := range wrap(text, columns-labelWidth) {
		fmt.Fprintf(p, "%-*s%s\n", labelWidth, label, p.paint(colour, line))
		label = ""
	}
}

func (p *page) title(text string) { fmt.Fprintf(p, "\n%s\n", p.paint(bold, text)) }

// row is a line of a table.
type row struct {
	colour string
	cells  []string
}

// table writes rows with aligned columns; the last of them is wrapped.
func (p *page) table(rows []row) {
	widths := map[int]int{}
	for _, r := range rows {
		for i, text := range r.cells {
			widths[i] = max(widths[i], utf8.RuneCountInString(text))
		}
	}
	for _, r := range rows {
		line, indent := "  ", 2
		last := len(r.cells) - 1
		for i, text := range r.cells[:last] {
			line += text + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text)+2)
			indent += widths[i] + 2
		}
		for _, rest := range wrap(r.cells[last], max(columns-indent, 30)) {
			fmt.Fprintln(p, p.paint(r.colour, strings.TrimRight(line+rest, " ")))
			line = strings.Repeat(" ", indent)
		}
	}
}

func (p *page) identity(c *v1alpha1.M2MClient) {
	s := &c.Status
	p.painted("Name", bold, c.Name)
	p.field("Namespace", c.Namespace)
	p.field("Client ID", clean(s.ClientID))
	p.field("Display name", clean(c.Spec.DisplayName))
	p.field("Description", clean(c.Spec.Description))
	if s.Effective != nil {
		p.field("Issuer", clean(s.Effective.IssuerName)+", iss "+clean(s.Issuer))
	}
	p.field("Token URL", clean(s.TokenURL))
}

// condition writes the state and what the operator says of it.
func (p *page) condition(c *v1alpha1.M2MClient) {
	colour := ""
	if stateOf(c) == v1alpha1.ClientInactive {
		colour = yellow
	}
	p.painted("State", colour, string(stateOf(c)))
	if c.DeletionTimestamp != nil {
		p.painted("", yellow, "it is being deleted")
	}
	if c.Annotations[v1alpha1.AnnotationPause] == "true" {
		p.painted("Paused", yellow, "nothing is written to it while the annotation "+v1alpha1.AnnotationPause+" is there")
	}
	if c.Status.ObservedGeneration != c.Generation {
		p.painted("Ready", yellow, "unknown: the operator has not seen its present manifest yet; what follows is of the one before")
	}
	for _, condition := range c.Status.Conditions {
		text := fmt.Sprintf("%s, %s: %s", condition.Status, clean(condition.Reason), clean(condition.Message))
		switch condition.Type {
		case v1alpha1.ConditionReady:
			colour = green
			if condition.Status != metav1.ConditionTrue {
				colour = red
			}
			p.painted(condition.Type, colour, text)
		case v1alpha1.ConditionStalled:
			p.painted(condition.Type, red, "it waits for a person")
		case v1alpha1.ConditionReconciling:
			p.painted(condition.Type, yellow, "it goes on by itself")
		default:
			p.painted("Warning", yellow, clean(condition.Type)+": "+clean(condition.Message))
		}
	}
}

// access writes what the client's tokens are good for.
func (p *page) access(c *v1alpha1.M2MClient) {
	label := "Scopes"
	granted := c.Status.GrantedScopes
	known := c.Status.Effective != nil && c.Status.ObservedGeneration == c.Generation && meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionReady) != nil && c.Status.Issuer != ""
	for _, scope := range c.Spec.Scopes {
		if known && !slices.Contains(granted, scope) {
			p.painted(label, red, clean(scope)+"  (not granted)")
		} else {
			p.field(label, clean(scope))
		}
		label = ""
	}
	if len(c.Spec.Scopes) == 0 {
		p.field(label, "none")
	}
	e := c.Status.Effective
	if e == nil {
		return
	}
	p.field("Audiences", clean(strings.Join(e.Audiences, ", ")))
	if e.TokenLifetime != nil {
		p.field("Tokens live", short(e.TokenLifetime.Duration))
	}
	if at := c.Status.TokensNotBefore; at != nil {
		p.painted("Tokens cut off", yellow, "those issued before "+stamp(*at))
	}
}

// rotation writes where the credential is, and when it is replaced.
func (p *page) rotation(c *v1alpha1.M2MClient, now time.Time) {
	e := c.Status.Effective
	switch {
	case e != nil && e.Delivery == v1alpha1.DeliveryNone && len(c.Status.Credentials) > 0:
		p.field("Secret", "none: the management API made the client, and its caller has the secret")
	case e != nil && e.Delivery == v1alpha1.DeliveryNone:
		p.field("Secret", "none")
	case c.Status.SecretName == "":
		p.field("Secret", "not delivered yet")
	case e != nil && e.DeletionPolicy == v1alpha1.DeletionRetain:
		p.field("Secret", clean(c.Status.SecretName)+", which stays when the client is deleted")
	default:
		p.field("Secret", clean(c.Status.SecretName))
	}
	if e != nil && e.Delivery == v1alpha1.DeliveryNone {
		return
	}
	if at := c.Status.LastRotationTime; at != nil {
		p.field("Last rotation", fmt.Sprintf("%s ago, %s", ago(at, now), stamp(*at)))
	}
	if at := c.Status.NextRotationTime; at != nil {
		p.field("Next rotation", fmt.Sprintf("%s, %s", in(at, now), stamp(*at)))
	} else {
		p.field("Next rotation", "on demand: `kubectl m2m rotate`; spec.rotation.interval is not set")
	}
}

// versions writes which secrets are valid, and when each was last used.
func (p *page) versions(c *v1alpha1.M2MClient, now time.Time) {
	if len(c.Status.Credentials) == 0 {
		return
	}
	p.title("Versions of the secret")
	rows := []row{{"", []string{"VERSION", "ROLE", "CREATED", "LAST USED", "ENDS"}}}
	for i := range c.Status.Credentials {
		v := &c.Status.Credentials[i]
		rows = append(rows, row{"", []string{
			clean(v.Version), clean(v.Role), ago(&v.CreatedAt, now) + " ago", usedAgo(c, v.Version, now), ends(v, now),
		}})
	}
	p.table(rows)
	p.note("Uses are reported up to a day late, up to an hour while a replaced secret is valid, and without callers: the token servers' audit logs name each with its address.")
}

// note writes a text under a table.
func (p *page) note(text string) {
	for _, line := range wrap(text, columns-2) {
		fmt.Fprintln(p, "  "+line)
	}
}

// ends says when a version stops being valid.
func ends(v *v1alpha1.CredentialStatus, now time.Time) string {
	switch {
	case v.Role == roleNext:
		return "not yet: it is to replace the current one"
	case v.NotAfter == nil:
		return "an overlap after it is replaced"
	case v.RetireAfter != nil && !v.RetireAfter.Equal(v.NotAfter) && now.Before(v.RetireAfter.Time):
		return fmt.Sprintf("%s; while it is used %s", in(v.RetireAfter, now), in(v.NotAfter, now))
	case v.RetireAfter != nil && !v.RetireAfter.Equal(v.NotAfter):
		return "when it is unused, at the latest " + in(v.NotAfter, now)
	}
	return in(v.NotAfter, now)
}

func usedAgo(c *v1alpha1.M2MClient, version string, now time.Time) string {
	for i := range c.Status.Usage {
		if u := &c.Status.Usage[i]; u.Version == version {
			return ago(&u.LastUsedAt, now) + " ago"
		}
	}
	return "not reported"
}

// workloads writes who authenticates without a secret.
func (p *page) workloads(c *v1alpha1.M2MClient, now time.Time) {
	if len(c.Spec.WorkloadIdentities) > 0 {
		p.title("Workload identities")
		for _, w := range c.Spec.WorkloadIdentities {
			fmt.Fprintf(p, "  ServiceAccount %s\n", clean(w.ServiceAccountName))
		}
		fmt.Fprintf(p, "  Last used: %s\n", usedAgo(c, "service_account", now))
	}
	if c.Spec.PublicKeys == nil {
		return
	}
	p.title("Public keys")
	rows := []row{{"", []string{"KID", "TYPE", "ALGORITHM"}}}
	for i := range c.Spec.PublicKeys.Keys {
		k := &c.Spec.PublicKeys.Keys[i]
		rows = append(rows, row{"", []string{clean(orDash(k.KeyID)), clean(strings.TrimSpace(k.KeyType + " " + k.Curve)), clean(orDash(k.Algorithm))}})
	}
	p.table(rows)
	fmt.Fprintf(p, "  Last used: %s\n", usedAgo(c, "private_key_jwt", now))
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// managers writes who owns which field of the spec.
func (p *page) managers(c *v1alpha1.M2MClient) {
	var rows []row
	for _, e := range c.ManagedFields {
		fields := fieldsIn(e, "spec")
		if e.Subresource != "" || len(fields) == 0 {
			continue
		}
		rows = append(rows, row{"", []string{clean(e.Manager), clean(strings.Join(fields, ", "))}})
	}
	if len(rows) == 0 {
		return
	}
	p.title("Field managers")
	p.table(rows)
}

// fieldsIn are the fields below one that an entry owns, shortest first where one holds
// others: maps that are owned as a whole are named once.
func fieldsIn(e metav1.ManagedFieldsEntry, below string) []string {
	fields, err := ownership.Fields(e)
	if err != nil {
		return nil
	}
	var names []string
	fields.Leaves().Iterate(func(path fieldpath.Path) {
		if name := strings.TrimPrefix(path.String(), "."); name == below || strings.HasPrefix(name, below+".") {
			names = append(names, name)
		}
	})
	slices.Sort(names)
	return names
}

// events writes what happened to the client lately.
func (p *page) events(v view, now time.Time) {
	p.title("Events")
	if v.noEvents != "" {
		p.note("not shown: " + clean(v.noEvents))
		return
	}
	if len(v.events) == 0 {
		p.note("none: the API server forgets them, after an hour by default")
		return
	}
	var rows []row
	for i := range v.events {
		rows = append(rows, eventRow(&v.events[i], now))
	}
	p.table(rows)
}

func eventRow(e *eventsv1.Event, now time.Time) row {
	at := metav1.NewTime(lastSeen(e))
	note := clean(e.Note)
	if e.Series != nil && e.Series.Count > 1 {
		note += fmt.Sprintf(" (%d times)", e.Series.Count)
	}
	if e.Type != corev1.EventTypeNormal {
		return row{yellow, []string{ago(&at, now), clean(e.Reason) + " (!)", note}}
	}
	return row{"", []string{ago(&at, now), clean(e.Reason), note}}
}

// short is a duration without its zeros: 1h for 1h0m0s.
func short(d time.Duration) string {
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}

// ago is how long ago something was; "" if it never was.
func ago(at *metav1.Time, now time.Time) string {
	if at == nil || at.IsZero() {
		return ""
	}
	return duration.HumanDuration(max(now.Sub(at.Time), 0))
}

// in is in what time something will be; "" if there is no such time.
func in(at *metav1.Time, now time.Time) string {
	switch {
	case at == nil || at.IsZero():
		return ""
	case at.Time.Before(now):
		return "due"
	}
	return "in " + duration.HumanDuration(at.Sub(now))
}

// clean is a text without what a terminal would obey: control characters, and those that
// turn the direction of writing. Line ends become spaces.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return '\uFFFD'
		}
		return r
	}, text)
}

// cut shortens a text to so many characters.
func cut(text string, most int) string {
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most-3]) + "..."
}

// wrap divides a text into lines at its spaces. A word that is longer than a line has
// one for itself: ids and URLs are copied.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.SplitSeq(text, " ") {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			lines, line = append(lines, line), word
			continue
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
