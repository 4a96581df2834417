package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	cyclonedx "github.com/CycloneDX/cyclonedx-go"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// This test is a Go program with modules in it, so it is described as one.
func TestBillOfMaterials(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	contents, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	programs := []program{
		{"m2m-operator", contents, v1.Platform{OS: "linux", Architecture: "amd64"}},
		{"kubectl-m2m", contents, v1.Platform{OS: "linux", Architecture: "arm64"}},
	}
	r := recipe{version: "v1.2.3+meta", created: time.Unix(1_800_000_000, 0).UTC()}
	document, err := r.billOfMaterials(programs)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(programs)
	if again, err := r.billOfMaterials(programs); err != nil || !bytes.Equal(document, again) {
		t.Errorf("the order of the programs changes it (%v)", err)
	}
	var bom cyclonedx.BOM
	if err := cyclonedx.NewBOMDecoder(bytes.NewReader(document), cyclonedx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	if bom.Metadata.Timestamp != "2027-01-15T08:00:00Z" || !regexp.MustCompile(`^urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`).MatchString(bom.SerialNumber) {
		t.Errorf("%s of %s", bom.SerialNumber, bom.Metadata.Timestamp)
	}
	checkComponents(t, &bom, programs[0])
	checkDependencies(t, &bom)
}

func checkComponents(t *testing.T, bom *cyclonedx.BOM, p program) {
	t.Helper()
	own, _ := debug.ReadBuildInfo()
	found := map[string]cyclonedx.Component{}
	for _, component := range *bom.Components {
		found[component.Name] = component
	}
	if got := found["m2m-operator"]; (*got.Hashes)[0].Value != p.sha256() || !strings.Contains(got.PackageURL, "@v1.2.3%2Bmeta") {
		t.Errorf("the operator: %+v", got)
	}
	if got := found["stdlib"]; got.Licenses == nil || (*got.Licenses)[0].License.ID != "BSD-3-Clause" || strings.HasPrefix(got.Version, "go") {
		t.Errorf("Go's library: %+v", got)
	}
	for _, m := range own.Deps {
		got, ok := found[m.Path]
		if !ok || got.Version != m.Version || !strings.HasPrefix(got.PackageURL, "pkg:golang/"+strings.ToLower(m.Path)+"@") || (*got.Properties)[0].Value != m.Sum {
			t.Errorf("%s@%s: %+v", m.Path, m.Version, got)
		}
	}
	const known = "github.com/CycloneDX/cyclonedx-go"
	if got := found[known]; got.Licenses == nil || (*got.Licenses)[0].License.ID != "Apache-2.0" {
		t.Errorf("%s: %+v", known, got.Licenses)
	}
}

// Every reference leads somewhere, and every component is reached from the image.
func checkDependencies(t *testing.T, bom *cyclonedx.BOM) {
	t.Helper()
	needs := map[string][]string{}
	for _, dependency := range *bom.Dependencies {
		needs[dependency.Ref] = *dependency.Dependencies
	}
	reached := map[string]bool{}
	open := []string{bom.Metadata.Component.BOMRef}
	for len(open) > 0 {
		next := open[0]
		open = open[1:]
		if !reached[next] {
			reached[next] = true
			open = append(open, needs[next]...)
		}
	}
	if len(reached) != len(*bom.Components)+1 {
		t.Errorf("%d components, %d are reached", len(*bom.Components), len(reached)-1)
	}
	for _, component := range *bom.Components {
		if !reached[component.BOMRef] {
			t.Errorf("%s isn't reached", component.BOMRef)
		}
	}
}

func TestModuleWithoutAVersionIsRefused(t *testing.T) {
	known, err := knownLicenses()
	if err != nil {
		t.Fatal(err)
	}
	b := &bill{"v1", known, map[string]cyclonedx.Component{}, map[string][]string{}}
	replaced := &debug.Module{Path: "example.com/a", Version: "v1.0.0", Replace: &debug.Module{Path: "../a"}}
	if err := b.addModule("image", replaced); err == nil || !strings.Contains(err.Error(), "comes from a folder") {
		t.Errorf("addModule() = %v", err)
	}
	replaced.Replace = &debug.Module{Path: "example.com/fork", Version: "v1.0.1"}
	if err := b.addModule("image", replaced); err != nil || b.needs["image"][0] != "pkg:golang/example.com/fork@v1.0.1" {
		t.Errorf("addModule() = %v, %v", err, b.needs)
	}
}

func TestLicensesInFolder(t *testing.T) {
	known, err := knownLicenses()
	if err != nil {
		t.Fatal(err)
	}
	bsd, err := os.ReadFile(filepath.Join(known.goRoot, "LICENSE"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		files  map[string]string
		wanted []string
	}{
		{"a license", map[string]string{"LICENSE": string(bsd)}, []string{"BSD-3-Clause"}},
		{"by another name, once", map[string]string{"Licence.txt": string(bsd), "COPYING": string(bsd)}, []string{"BSD-3-Clause"}},
		{"half a license", map[string]string{"LICENSE": string(bsd[:len(bsd)/2])}, nil},
		{"its own words", map[string]string{"LICENSE": "You may do what you like."}, nil},
		{"a mention", map[string]string{"README": string(bsd), "license.go": "package license"}, nil},
		{"nothing", nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			folder := t.TempDir()
			for name, text := range c.files {
				if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := known.inFolder(folder); err != nil || !slices.Equal(got, c.wanted) {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}
