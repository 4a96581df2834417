// Package markdown finds what documents show, for the tests that run it.
package markdown

import (
	"regexp"
	"strings"
)

// Fence is a fenced block: its info string and its lines.
type Fence struct{ Info, Text string }

var fence = regexp.MustCompile("(?ms)^```([^\n`]*)\n(.*?)^```$")

// Fences are those of a document whose info strings begin so.
func Fences(document, info string) []Fence {
	var found []Fence
	for _, match := range fence.FindAllStringSubmatch(document, -1) {
		if strings.HasPrefix(match[1], info) {
			found = append(found, Fence{match[1], match[2]})
		}
	}
	return found
}

// WithoutFences is a document without its fenced blocks.
func WithoutFences(document string) string { return fence.ReplaceAllString(document, "") }
