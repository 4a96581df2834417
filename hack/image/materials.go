package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"debug/buildinfo"
	"errors"
	"fmt"
	"net/url"
	"path"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	cyclonedx "github.com/CycloneDX/cyclonedx-go"
)

// rootsModule is where the image's certificate authorities come from.
const rootsModule = "golang.org/x/crypto/x509roots/fallback"

// bill is a bill of materials that is being written.
type bill struct {
	version    string
	licenses   *licenses
	components map[string]cyclonedx.Component // by reference
	needs      map[string][]string            // references by reference
}

// billOfMaterials lists what is in the image, by what the programs say of themselves: CycloneDX in
// JSON, the same for the same recipe.
func (r *recipe) billOfMaterials(programs []program) ([]byte, error) {
	known, err := knownLicenses()
	if err != nil {
		return nil, err
	}
	b := &bill{r.version, known, map[string]cyclonedx.Component{}, map[string][]string{}}
	subject := cyclonedx.Component{
		BOMRef:   "image",
		Type:     cyclonedx.ComponentTypeContainer,
		Name:     "m2m-operator",
		Version:  r.version,
		Licenses: licensed(declared, "Apache-2.0"),
	}
	for _, p := range programs {
		if err := b.addProgram(subject.BOMRef, p); err != nil {
			return nil, fmt.Errorf("%s for %s: %w", p.name, p.platform, err)
		}
	}
	if err := b.addRoots(subject.BOMRef); err != nil {
		return nil, err
	}
	return encode(b.document(subject, r.created))
}

// addProgram adds a program and the modules in it.
func (b *bill) addProgram(parent string, p program) error {
	info, err := buildinfo.Read(bytes.NewReader(p.contents))
	if err != nil {
		return fmt.Errorf("what it was built from: %w", err)
	}
	component := cyclonedx.Component{
		BOMRef:     path.Join(p.platform.String(), p.name),
		Type:       cyclonedx.ComponentTypeApplication,
		Name:       p.name,
		Version:    b.version,
		Hashes:     &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: p.sha256()}},
		Licenses:   licensed(declared, "Apache-2.0"),
		PackageURL: packageURL(info.Main.Path, b.version) + "#" + strings.TrimPrefix(info.Path, info.Main.Path+"/"),
		Properties: settings(info),
	}
	b.add(parent, component)
	if err := b.addStandardLibrary(component.BOMRef, info.GoVersion); err != nil {
		return err
	}
	for _, dependency := range info.Deps {
		if err := b.addModule(component.BOMRef, dependency); err != nil {
			return err
		}
	}
	return nil
}

func (b *bill) add(parent string, component cyclonedx.Component) {
	b.components[component.BOMRef] = component
	if !slices.Contains(b.needs[parent], component.BOMRef) {
		b.needs[parent] = append(b.needs[parent], component.BOMRef)
	}
}

func (b *bill) addModule(parent string, m *debug.Module) error {
	if m.Replace != nil {
		m = m.Replace
	}
	if m.Version == "" {
		return fmt.Errorf("%s comes from a folder, not from a version: remove its replacement from go.mod", m.Path)
	}
	ids, err := b.licenses.ofModule(m.Path, m.Version)
	if err != nil {
		return fmt.Errorf("the license of %s: %w", m.Path, err)
	}
	component := library(m.Path, m.Version, ids)
	if m.Sum != "" { // of a list of files, so none of the hashes that CycloneDX knows
		component.Properties = &[]cyclonedx.Property{{Name: "go:sum", Value: m.Sum}}
	}
	b.add(parent, component)
	return nil
}

// addStandardLibrary adds Go's own library, by the name that databases of vulnerabilities use.
func (b *bill) addStandardLibrary(parent, goVersion string) error {
	ids, err := b.licenses.ofGo()
	if err != nil {
		return fmt.Errorf("the license of Go: %w", err)
	}
	number, _, _ := strings.Cut(strings.TrimPrefix(goVersion, "go"), " ")
	b.add(parent, library("stdlib", number, ids))
	return nil
}

// addRoots adds the certificate authorities, which this program carries.
func (b *bill) addRoots(parent string) error {
	own, ok := debug.ReadBuildInfo()
	if !ok {
		return errors.New("this program doesn't know what it was built from: build it with modules")
	}
	for _, m := range own.Deps {
		if m.Path == rootsModule {
			return b.addModule(parent, m)
		}
	}
	return fmt.Errorf("this program doesn't know its version of %s", rootsModule)
}

// document puts everything in order.
func (b *bill) document(subject cyclonedx.Component, created time.Time) *cyclonedx.BOM {
	components := make([]cyclonedx.Component, 0, len(b.components))
	for _, component := range b.components {
		components = append(components, component)
	}
	slices.SortFunc(components, func(x, y cyclonedx.Component) int { return cmp.Compare(x.BOMRef, y.BOMRef) })
	dependencies := make([]cyclonedx.Dependency, 0, len(b.needs))
	for parent, needs := range b.needs {
		slices.Sort(needs)
		dependencies = append(dependencies, cyclonedx.Dependency{Ref: parent, Dependencies: &needs})
	}
	slices.SortFunc(dependencies, func(x, y cyclonedx.Dependency) int { return cmp.Compare(x.Ref, y.Ref) })
	document := cyclonedx.NewBOM()
	document.Metadata = &cyclonedx.Metadata{
		Timestamp: created.Format(time.RFC3339),
		Tools:     &cyclonedx.ToolsChoice{Components: &[]cyclonedx.Component{{Type: cyclonedx.ComponentTypeApplication, Name: "m2m-operator/hack/image"}}},
		Component: &subject,
	}
	document.Components = &components
	document.Dependencies = &dependencies
	return document
}

// encode names the document by its contents, and reads it again before anyone else has to.
func encode(document *cyclonedx.BOM) ([]byte, error) {
	var unnamed, named, again bytes.Buffer
	if err := write(&unnamed, document); err != nil {
		return nil, err
	}
	document.SerialNumber = "urn:uuid:" + contentUUID(unnamed.Bytes())
	if err := write(&named, document); err != nil {
		return nil, err
	}
	var read cyclonedx.BOM
	if err := cyclonedx.NewBOMDecoder(bytes.NewReader(named.Bytes()), cyclonedx.BOMFileFormatJSON).Decode(&read); err != nil {
		return nil, fmt.Errorf("it can't be read: %w", err)
	}
	if err := write(&again, &read); err != nil {
		return nil, err
	}
	if !bytes.Equal(named.Bytes(), again.Bytes()) {
		return nil, errors.New("it says something else when it is read again")
	}
	return named.Bytes(), nil
}

// write writes version 1.6, which scanners of today read.
func write(w *bytes.Buffer, document *cyclonedx.BOM) error {
	return cyclonedx.NewBOMEncoder(w, cyclonedx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(document, cyclonedx.SpecVersion1_6)
}

// contentUUID is a UUID of version 8 (RFC 9562), made of a hash.
func contentUUID(contents []byte) string {
	sum := sha256.Sum256(contents)
	sum[6] = sum[6]&0x0f | 0x80
	sum[8] = sum[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

func library(name, version string, ids []string) cyclonedx.Component {
	address := packageURL(name, version)
	return cyclonedx.Component{
		BOMRef:     address,
		Type:       cyclonedx.ComponentTypeLibrary,
		Name:       name,
		Version:    version,
		Licenses:   licensed(concluded, ids...),
		PackageURL: address,
	}
}

// packageURL is an address of the type golang, which has lower case only.
func packageURL(modulePath, version string) string {
	return "pkg:golang/" + strings.ToLower(modulePath) + "@" + url.QueryEscape(version)
}

// Licenses that the author states, and those that a program found.
const (
	declared  = cyclonedx.LicenseAcknowledgementDeclared
	concluded = cyclonedx.LicenseAcknowledgementConcluded
)

func licensed(how cyclonedx.LicenseAcknowledgement, ids ...string) *cyclonedx.Licenses {
	if len(ids) == 0 {
		return nil
	}
	var choices cyclonedx.Licenses
	for _, id := range ids {
		choices = append(choices, cyclonedx.LicenseChoice{License: &cyclonedx.License{ID: id, Acknowledgement: how}})
	}
	return &choices
}

// settings are what the compiler was told.
func settings(info *debug.BuildInfo) *[]cyclonedx.Property {
	properties := []cyclonedx.Property{{Name: "go:version", Value: info.GoVersion}}
	for _, setting := range info.Settings {
		properties = append(properties, cyclonedx.Property{Name: "go:build:" + setting.Key, Value: setting.Value})
	}
	return &properties
}
