package managementapi

import (
	"net/http"
	"net/url"
	"strings"
)

// prefix is where the API begins.
const prefix = "/v1/m2m/"

// resource is what a path names.
type resource int

const (
	outside      resource = iota // it is not below the prefix
	nothingThere                 // it is, and names nothing
	theCollection
	theSearch
	theClient
	theRotationStart
	theRotation
	theRotationCancel
)

// action is what a call does, as the audit log and metrics name it.
type action string

const (
	actionCreate       action = "create"
	actionGet          action = "get"
	actionSearch       action = "search"
	actionUpdate       action = "update"
	actionDelete       action = "delete"
	actionRotateStart  action = "rotate_start"
	actionRotate       action = "rotate"
	actionRotateCancel action = "rotate_cancel"
)

// changes tells whether the action leaves something changed.
func (a action) changes() bool { return a != actionGet && a != actionSearch }

// route finds what an escaped path names. Only the client's id is unescaped, after the
// path was split: so an id may hold slashes, and no escape stands for a part of the route.
func route(escaped string) (resource, string) {
	rest, below := strings.CutPrefix(escaped, prefix)
	if !below {
		return outside, ""
	}
	name, rest, _ := strings.Cut(rest, "/")
	segment, rest, more := strings.Cut(rest, "/")
	id, err := url.PathUnescape(segment)
	switch {
	case name != "clients" || err != nil:
		return nothingThere, ""
	case more:
		return rotationOf(rest), id
	case id == "":
		return theCollection, "" // also with a trailing slash
	case id == "search":
		return theSearch, id
	}
	return theClient, id
}

// rotationOf finds what follows a client's id.
func rotationOf(rest string) resource {
	switch rest {
	case "secrets/rotate/start":
		return theRotationStart
	case "secrets/rotate":
		return theRotation
	case "secrets/rotate/cancel":
		return theRotationCancel
	}
	return nothingThere
}

// method is one that a resource has.
type method struct {
	name string
	action
}

// methods of the resources. A client may be named search; only POST doesn't reach it.
var methods = map[resource][]method{
	theCollection:     {{http.MethodPost, actionCreate}},
	theSearch:         {{http.MethodGet, actionGet}, {http.MethodPut, actionUpdate}, {http.MethodPost, actionSearch}, {http.MethodDelete, actionDelete}},
	theClient:         {{http.MethodGet, actionGet}, {http.MethodPut, actionUpdate}, {http.MethodPost, actionUpdate}, {http.MethodDelete, actionDelete}},
	theRotationStart:  {{http.MethodPost, actionRotateStart}},
	theRotation:       {{http.MethodPost, actionRotate}},
	theRotationCancel: {{http.MethodPost, actionRotateCancel}},
}

// method returns what a method does to a resource, and the methods that it has.
func (r resource) method(name string) (does action, allow string) {
	var names []string
	for _, m := range methods[r] {
		names = append(names, m.name)
		if m.name == name {
			does = m.action
		}
	}
	return does, strings.Join(names, ", ")
}

// maxClientID bounds the ids that clients have, in bytes: those that were made elsewhere
// may be longer than those that can be chosen here.
const maxClientID = 256

// mayBeClientID tells whether some client could have the id.
func mayBeClientID(id string) bool {
	return id != "" && len(id) <= maxClientID && visible(id)
}

// visible tells whether a text is printable ASCII without spaces.
func visible(s string) bool {
	return strings.IndexFunc(s, func(c rune) bool { return c <= ' ' || c > '~' }) < 0
}
