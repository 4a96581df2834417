package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	classifier "github.com/google/licenseclassifier/v2"
	"github.com/google/licenseclassifier/v2/assets"
	"golang.org/x/mod/module"
)

// minConfidence is how much of a license's text must be there. What is less certain is left out,
// for a person to look at, rather than guessed.
const minConfidence = 0.95

var licenseFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|unlicense)([-._].*)?$`)

// licenses finds the licenses of modules by the texts in the module cache.
type licenses struct {
	classifier  *classifier.Classifier
	moduleCache string
	goRoot      string
}

// knownLicenses takes a second to load, so that happens once.
var knownLicenses = sync.OnceValues(func() (*licenses, error) {
	known, err := assets.DefaultClassifier()
	if err != nil {
		return nil, err
	}
	output, err := exec.Command("go", "env", "GOMODCACHE", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	moduleCache, goRoot, _ := strings.Cut(strings.TrimSpace(string(output)), "\n")
	return &licenses{known, moduleCache, goRoot}, nil
})

// ofModule returns SPDX identifiers in order; none if there is no text that is clear.
func (l *licenses) ofModule(path, version string) ([]string, error) {
	escapedPath, err := module.EscapePath(path)
	if err != nil {
		return nil, err
	}
	escapedVersion, err := module.EscapeVersion(version)
	if err != nil {
		return nil, err
	}
	return l.inFolder(filepath.Join(l.moduleCache, filepath.FromSlash(escapedPath)+"@"+escapedVersion))
}

// ofGo returns the licenses of Go's own library.
func (l *licenses) ofGo() ([]string, error) { return l.inFolder(l.goRoot) }

func (l *licenses) inFolder(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, os.ErrNotExist) { // binaries that were built elsewhere
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var found []string
	for _, entry := range entries {
		if !entry.Type().IsRegular() || !licenseFile.MatchString(entry.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(folder, entry.Name()))
		if err != nil {
			return nil, err
		}
		for _, match := range l.classifier.Match(text).Matches {
			if match.MatchType == "License" && match.Confidence >= minConfidence {
				found = append(found, match.Name)
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}
