package token

import "strings"

// Issuers finds issuers by what a request says. It doesn't change and may be shared.
type Issuers struct {
	byProject map[string]*Issuer
	byURL     map[string]*Issuer // by host and path
	only      *Issuer            // the one that there is; nil: none or several
}

// NewIssuers indexes issuers. Of two with one project id or URL it finds the first.
func NewIssuers(issuers ...*Issuer) *Issuers {
	s := &Issuers{byProject: map[string]*Issuer{}, byURL: map[string]*Issuer{}}
	for _, i := range issuers {
		if _, taken := s.byProject[i.ProjectID]; !taken {
			s.byProject[i.ProjectID] = i
		}
		if _, taken := s.byURL[portless(i.host)+i.Path]; !taken {
			s.byURL[portless(i.host)+i.Path] = i
		}
	}
	if len(issuers) == 1 {
		s.only = issuers[0]
	}
	return s
}

// Issuer finds an issuer by its project id.
func (s *Issuers) Issuer(projectID string) (*Issuer, bool) {
	i, ok := s.byProject[projectID]
	return i, ok
}

// IssuerAt finds an issuer by the host that a request was sent to and the path of
// its URL. Where there is one issuer, it is found at whatever host, because a
// Service or a port-forward has other names than the issuer.
func (s *Issuers) IssuerAt(host, path string) (*Issuer, bool) {
	if i, ok := s.byURL[portless(strings.ToLower(host))+path]; ok {
		return i, true
	}
	if s.only != nil && (path == "" || path == s.only.Path) {
		return s.only, true
	}
	return nil, false
}

// portless cuts off the ports that clients leave out. The scheme may end at a
// proxy, so it isn't known here.
func portless(host string) string {
	if h, ok := strings.CutSuffix(host, ":443"); ok {
		return h
	}
	return strings.TrimSuffix(host, ":80")
}
