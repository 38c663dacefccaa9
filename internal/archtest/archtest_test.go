// Package archtest holds the rules of the architecture as tests: who may import whom, how large files and packages may grow,
// and that everything exported is documented. The table imports.txt is the truth about imports; a change of it needs a reason
// in the commit.
package archtest

import (
	"bufio"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/keyward/keyward/"

// The sizes of DEVELOPERS and style: a file of more than maxLines lines, or a package that exports more than maxNames names, is
// doing more than one thing.
const (
	maxLines = 400
	maxNames = 30
	maxTest  = 600
)

// dataPackages hold words, not behaviour: many names are their purpose.
var dataPackages = map[string]bool{
	"internal/txn": true, "hsmclient/command": true, "hsmclient/member": true, "hsmclient/driver": true, "iso": true, "iso/unionpay/kind": true, "keys": true,
}

// forbiddenNames say nothing about what a package owns.
var forbiddenNames = []string{"util", "utils", "common", "helper", "helpers", "misc", "shared", "base"}

// pkg is one package of the tree, read from its source.
type pkg struct {
	path    string               // below the module, "" for the root
	files   map[string]*ast.File // production files
	imports map[string][]string  // import path → files
	lines   map[string]int       // all files with tests
	fset    *token.FileSet
}

func TestImportsAreInTheTable(t *testing.T) {
	t.Parallel()
	table := readTable(t)
	for _, p := range packages(t) {
		if len(p.files) == 0 {
			continue
		}
		row, ok := table[p.path]
		if !ok {
			t.Errorf("package %s is not in imports.txt: add a line with its floor and what it may import", p.path)
			continue
		}
		for imported, files := range p.imports {
			own, inside := strings.CutPrefix(imported, module)
			if !inside {
				continue
			}
			if !slices.Contains(row.may, own) {
				t.Errorf("%s: %s imports %s, which imports.txt does not allow", files[0], p.path, own)
			}
			if other, ok := table[own]; ok && other.floor >= row.floor {
				t.Errorf("%s (floor %g) imports %s (floor %g): imports go to lower floors only", p.path, row.floor, own, other.floor)
			}
		}
		for _, own := range row.may {
			if p.imports[module+own] == nil {
				t.Errorf("imports.txt allows %s to import %s, which it does not: remove it", p.path, own)
			}
		}
		delete(table, p.path)
	}
	for path := range table {
		t.Errorf("imports.txt names %s, which does not exist", path)
	}
}

// outside lists third-party modules that only some packages may use, and why.
var outside = []struct {
	prefix string
	ok     func(path string) bool
	why    string
}{
	{"github.com/tjfoc/gmsm", isSimulator, "tjfoc/gmsm is the other end of the wire: simulators only (facts/platform.md)"},
	{"github.com/emmansun/gmsm", func(p string) bool { return !isSimulator(p) }, "simulators share no SM library with what they test"},
	{"github.com/moov-io/iso8583", func(p string) bool { return p == "iso" || strings.HasPrefix(p, "iso/") }, "message specs live in the dialects"},
	{"github.com/spf13/cobra", func(p string) bool {
		return strings.HasPrefix(p, "cmd/") || strings.HasSuffix(p, "/poscmd") || strings.Contains(p, "/cmd/")
	}, "flags are the commands' business"},
	{"github.com/golang-migrate", func(p string) bool { return p == "migrations" }, "migrations are applied in one place"},
	{"go.uber.org/goleak", isTestPackage, "test library"},
	{"testing", func(p string) bool { return isTestPackage(p) || p == "internal/vectors" }, "production binaries link no test code"},
	{"crypto/des", func(p string) bool { return strings.HasPrefix(p, "keys/") || isSimulator(p) || isTestPackage(p) }, "old ciphers only in keys and simulators"},
	{"log", func(string) bool { return false }, "logs go through slog"},
}

func isTestPackage(p string) bool { return strings.HasSuffix(p, "test") }

func isSimulator(p string) bool { return strings.HasPrefix(p, "sim/") }

func TestOutsideImports(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		for imported, files := range p.imports {
			for _, rule := range outside {
				if (imported == rule.prefix || strings.HasPrefix(imported, rule.prefix+"/")) && !rule.ok(p.path) {
					if rule.prefix == "log" && imported != "log" || rule.prefix == "testing" && imported != "testing" {
						continue
					}
					t.Errorf("%s imports %s: %s", files[0], imported, rule.why)
				}
			}
		}
	}
}

func TestSimulatorsShareNothingWithWhatTheyTest(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if !isSimulator(p.path) {
			continue
		}
		for imported, files := range p.imports {
			own, inside := strings.CutPrefix(imported, module)
			if inside && !isSimulator(own) && own != "internal/httpapi" && own != "internal/service" {
				t.Errorf("%s imports %s: a simulator packs its own bytes", files[0], own)
			}
		}
	}
}

// TestFrontEndCannotIssue: whatever the table says, what faces terminals or drives cards has no way to derive or export a key (P1).
func TestFrontEndCannotIssue(t *testing.T) {
	t.Parallel()
	issuing := []string{"internal/keystore", "internal/keyservice", "internal/rewrap"}
	capabilities := []string{"Diversifier", "CardExporter", "Diversification", "CardExport", "ZoneExchanger", "ZoneKey", "LMKTranslator"}
	seen := 0
	for _, p := range packages(t) {
		if p.path != "internal/posp" && !strings.HasPrefix(p.path, "internal/posp/") && p.path != "internal/issuer" && !strings.HasPrefix(p.path, "internal/posv") {
			continue
		}
		seen++
		for imported, files := range p.imports {
			if own, inside := strings.CutPrefix(imported, module); inside && slices.Contains(issuing, own) {
				t.Errorf("%s imports %s: only the key service derives and exports (P1)", files[0], own)
			}
		}
		for name, file := range p.files {
			ast.Inspect(file, func(n ast.Node) bool {
				if sel, ok := n.(*ast.SelectorExpr); ok {
					if x, ok := sel.X.(*ast.Ident); ok && x.Name == "command" && slices.Contains(capabilities, sel.Sel.Name) {
						t.Errorf("%s names command.%s: only the key service derives and exports (P1)", name, sel.Sel.Name)
					}
				}
				return true
			})
		}
	}
	if seen < 5 {
		t.Fatalf("only %d packages were looked at: has something moved?", seen)
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		for file, n := range p.lines {
			limit := maxLines
			if strings.HasSuffix(file, "_test.go") {
				limit = maxTest
			}
			if n > limit {
				t.Errorf("%s has %d lines, the limit is %d: split it by what it does", file, n, limit)
			}
		}
		if n := len(exported(p)); n > maxNames && !dataPackages[p.path] {
			t.Errorf("package %s exports %d names, the limit is %d", p.path, n, maxNames)
		}
	}
}

func TestNamesAndDocumentation(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if len(p.files) == 0 {
			continue
		}
		for _, bad := range forbiddenNames {
			if path.Base(p.path) == bad {
				t.Errorf("package %s: the name says nothing about what it owns", p.path)
			}
		}
		documented := false
		for _, f := range p.files {
			documented = documented || f.Doc.Text() != ""
		}
		if !documented {
			t.Errorf("package %s has no package comment", p.path)
		}
		for name, doc := range exported(p) {
			if doc == "" {
				t.Errorf("%s.%s has no doc comment", p.path, name)
			}
		}
	}
}

// exported gives the exported top-level names of a package with their comments, a group's comment counting for all of it, and
// the exported methods of exported types (which do not count as names) under "type.method".
func exported(p *pkg) map[string]string {
	names := map[string]string{}
	for _, f := range p.files {
		if f.Name.Name == "main" {
			continue
		}
		for _, decl := range f.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil && d.Name.IsExported() {
					names[d.Name.Name] = d.Doc.Text()
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch s := spec.(type) {
					case *ast.TypeSpec:
						if s.Name.IsExported() {
							names[s.Name.Name] = s.Doc.Text() + d.Doc.Text() + s.Comment.Text()
						}
					case *ast.ValueSpec:
						for _, n := range s.Names {
							if n.IsExported() {
								names[n.Name] = s.Doc.Text() + d.Doc.Text() + s.Comment.Text()
							}
						}
					}
				}
			}
		}
	}
	return names
}

// TestMethodsAreDocumented checks the exported methods of exported types.
func TestMethodsAreDocumented(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		for name, f := range p.files {
			for _, decl := range f.Decls {
				d, ok := decl.(*ast.FuncDecl)
				if !ok || d.Recv == nil || !d.Name.IsExported() || d.Doc.Text() != "" || f.Name.Name == "main" {
					continue
				}
				recv := d.Recv.List[0].Type
				if star, ok := recv.(*ast.StarExpr); ok {
					recv = star.X
				}
				if ix, ok := recv.(*ast.IndexExpr); ok {
					recv = ix.X
				}
				if id, ok := recv.(*ast.Ident); ok && id.IsExported() {
					t.Errorf("%s: method %s.%s has no doc comment", name, id.Name, d.Name.Name)
				}
			}
		}
	}
}

// row is one line of imports.txt: floor, package, and what it may import of our own.
type row struct {
	floor float64
	may   []string
}

func readTable(t *testing.T) map[string]row {
	t.Helper()
	f, err := os.Open("imports.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	table := map[string]row{}
	scan := bufio.NewScanner(f)
	for n := 1; scan.Scan(); n++ {
		line := strings.TrimSpace(scan.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, may, _ := strings.Cut(line, ":")
		head := strings.Fields(name)
		if len(head) != 2 {
			t.Fatalf("imports.txt line %d: want \"floor package: imports\"", n)
		}
		floor, err := strconv.ParseFloat(head[0], 64)
		if err != nil {
			t.Fatalf("imports.txt line %d: floor %q", n, head[0])
		}
		table[head[1]] = row{floor: floor, may: strings.Fields(may)}
	}
	if len(table) == 0 {
		t.Fatal("imports.txt is empty")
	}
	return table
}

// packages reads every package of the tree, platform variants included.
func packages(t *testing.T) []*pkg {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	byPath := map[string]*pkg{}
	err = filepath.WalkDir(root, func(file string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if file != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin" || name == "reports") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		return add(byPath, filepath.ToSlash(rel), file)
	})
	if err != nil {
		t.Fatal(err)
	}
	list := make([]*pkg, 0, len(byPath))
	for _, p := range byPath {
		list = append(list, p)
	}
	if len(list) < 20 {
		t.Fatalf("only %d packages found below %s", len(list), root)
	}
	return list
}

func add(byPath map[string]*pkg, rel, file string) error {
	dir := path.Dir(rel)
	p := byPath[dir]
	if p == nil {
		p = &pkg{path: dir, files: map[string]*ast.File{}, imports: map[string][]string{}, lines: map[string]int{}, fset: token.NewFileSet()}
		byPath[dir] = p
	}
	src, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	p.lines[rel] = strings.Count(string(src), "\n")
	if strings.HasSuffix(rel, "_test.go") {
		return nil
	}
	parsed, err := parser.ParseFile(p.fset, rel, src, parser.ParseComments)
	if err != nil {
		return err
	}
	p.files[rel] = parsed
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		p.imports[imported] = append(p.imports[imported], rel)
	}
	return nil
}
