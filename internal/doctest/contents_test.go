package doctest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var inBackquotes = regexp.MustCompile("`([^`]+)`")

// TestPackageTable: the table of docs/architecture.md names packages that exist, and every package of the first level is in it.
func TestPackageTable(t *testing.T) {
	t.Parallel()
	named := map[string]bool{}
	for _, row := range rows(section(t, read(t, "docs/architecture.md"), "Packages and floors")) {
		first := ""
		for _, m := range inBackquotes.FindAllStringSubmatch(row[0], -1) {
			name := strings.TrimSuffix(m[1], "/...")
			if !isPackage(name) && first != "" { // a row may leave out the directory that all its packages share
				name = path.Join(path.Dir(first), m[1])
			}
			if !exists(name) || !hasGo(name) {
				t.Errorf("docs/architecture.md names package %s, which does not exist", m[1])
			}
			if first == "" {
				first = name
			}
			named[name] = true
		}
	}
	top := []string{"migrations", "keys", "iso", "hsmclient", "sim"}
	entries, err := os.ReadDir(filepath.Join(root, "internal"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if name := "internal/" + e.Name(); e.IsDir() && hasGo(name) {
			top = append(top, name)
		}
	}
	if len(top) < 20 {
		t.Errorf("only %d packages found", len(top))
	}
	for _, name := range top {
		if !named[name] {
			t.Errorf("package %s is not in the table of docs/architecture.md", name)
		}
	}
}

func isPackage(name string) bool { return exists(name) && hasGo(name) }

// hasGo tells whether there are Go files in the directory or below.
func hasGo(name string) bool {
	for _, pattern := range []string{"*.go", "*/*.go"} {
		if list, err := filepath.Glob(filepath.Join(root, name, pattern)); err == nil && len(list) > 0 {
			return true
		}
	}
	return false
}

// TestLogLines: the log lines of docs/operations.md are in the code as they stand there.
func TestLogLines(t *testing.T) {
	t.Parallel()
	var code strings.Builder
	for _, top := range []string{"internal", "hsmclient", "cmd"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(file string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
				return err
			}
			text, err := os.ReadFile(file)
			code.Write(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	seen := 0
	for _, row := range rows(section(t, read(t, "docs/operations.md"), "Logs")) {
		seen++
		if line := strings.Trim(row[0], "`"); !strings.Contains(code.String(), `"`+line) {
			t.Errorf("docs/operations.md: no service logs %q", line)
		}
	}
	if seen < 8 {
		t.Errorf("only %d log lines seen", seen)
	}
}

// devPorts are the constants port… of internal/dev by name, read from the source because they are its own business.
func devPorts(t *testing.T) map[string]int {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, "internal/dev/ports.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 || !strings.HasPrefix(spec.Names[0].Name, "port") {
			return true
		}
		if value, ok := spec.Values[0].(*ast.BasicLit); ok {
			out[spec.Names[0].Name], _ = strconv.Atoi(value.Value) // a name without a number is missed below
		}
		return true
	})
	if len(out) < 8 {
		t.Fatalf("internal/dev has only %d ports: %v", len(out), out)
	}
	return out
}

var portInText = regexp.MustCompile(`127\.0\.0\.1:(\d+)`)

// TestPorts: the table of README.md holds the ports of internal/dev, each with the right thing behind it.
func TestPorts(t *testing.T) {
	t.Parallel()
	ports := devPorts(t)
	readme := read(t, "README.md")
	want := map[int]string{
		ports["portTerminals"]: "terminals", ports["portTLS"]: "TLS", ports["portPOSV"]: "console", ports["portIssuer"]: "issuer", ports["portOperations"]: "operations",
		ports["portKeys"]: "key service", ports["portControl"]: "simulators", ports["portOperation"]: "operation of posp's HSMs",
	}
	seen := map[int]bool{}
	for _, row := range rows(readme) {
		m := portInText.FindStringSubmatch(row[0])
		if m == nil {
			continue
		}
		port, _ := strconv.Atoi(m[1]) // digits
		seen[port] = true
		if !strings.Contains(row[1], want[port]) || want[port] == "" {
			t.Errorf("README.md says that %d is %q, internal/dev that it is %q", port, row[1], want[port])
		}
	}
	for port, what := range want {
		if !seen[port] {
			t.Errorf("README.md does not list port %d (%s)", port, what)
		}
	}
	var known []int
	for _, port := range ports {
		known = append(known, port, port+1, port+2) // three HSMs
	}
	for page, text := range pages(t) {
		for _, m := range portInText.FindAllStringSubmatch(text, -1) {
			if port, _ := strconv.Atoi(m[1]); !slices.Contains(known, port) {
				t.Errorf("%s names port %d, which nothing has", page, port)
			}
		}
	}
}
