package pki_test

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/keyward/keyward/internal/dev/pki"
	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/internal/order"
	"github.com/keyward/keyward/keys/secret"
)

var hosts = []string{"127.0.0.1", "localhost"}

func ensure(t *testing.T, dir string, now time.Time) pki.Files {
	t.Helper()
	files, err := pki.Ensure(dir, hosts, []string{"posp", "keyward-dev"}, now)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// contents reads all files of a directory.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, e := range entries {
		raw, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = string(raw)
	}
	return all
}

func TestMutualTLS(t *testing.T) {
	t.Parallel()
	files := ensure(t, t.TempDir(), time.Now())
	serverTLS, err := httpapi.ServerTLS(files.Server.Cert, files.Server.Key, files.CA)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(r.TLS.VerifiedChains[0][0].Subject.CommonName))
	}))
	server.TLS = serverTLS
	server.StartTLS()
	defer server.Close()
	clientTLS, err := httpapi.ClientTLS(files.Clients["posp"].Cert, files.Clients["posp"].Key, files.CA)
	if err != nil {
		t.Fatal(err)
	}
	call := func(config *tls.Config) error {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
		res, err := client.Get(server.URL)
		if err != nil {
			return err
		}
		return res.Body.Close()
	}
	if err := call(clientTLS); err != nil {
		t.Errorf("with a certificate: %v", err)
	}
	bare := clientTLS.Clone()
	bare.Certificates = nil
	if call(bare) == nil {
		t.Error("the server let a client in that has no certificate")
	}
	stranger := ensure(t, t.TempDir(), time.Now())
	foreign, err := httpapi.ClientTLS(stranger.Clients["posp"].Cert, stranger.Clients["posp"].Key, files.CA)
	if err != nil {
		t.Fatal(err)
	}
	if call(foreign) == nil {
		t.Error("the server let a client of another authority in")
	}
}

func TestKeptAcrossRuns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ensure(t, dir, time.Now())
	before := contents(t, dir)
	ensure(t, dir, time.Now().Add(24*time.Hour))
	for name, text := range contents(t, dir) {
		if before[name] != text {
			t.Errorf("%s changed between two runs", name)
		}
	}
}

func TestMadeAgain(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		spoil   func(t *testing.T, dir string)
		later   time.Duration
		changes []string // must change
		stays   []string
	}{
		{"about to end", func(*testing.T, string) {}, 2*365*24*time.Hour - 24*time.Hour, []string{"ca.crt", "keys-server.crt", "client-posp.crt"}, []string{"order.key", "order.pub"}},
		{"a key is lost", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "client-posp.key")); err != nil {
				t.Fatal(err)
			}
		}, 0, []string{"client-posp.crt", "client-posp.key"}, []string{"ca.crt", "keys-server.crt", "order.key"}},
		{"a torn file", func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "ca.crt"), []byte("-----BEGIN"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, 0, []string{"ca.crt", "keys-server.crt", "client-posp.crt"}, []string{"order.key"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			ensure(t, dir, time.Now())
			before := contents(t, dir)
			test.spoil(t, dir)
			files := ensure(t, dir, time.Now().Add(test.later))
			after := contents(t, dir)
			for _, name := range test.changes {
				if before[name] == after[name] {
					t.Errorf("%s is the old one", name)
				}
			}
			for _, name := range test.stays {
				if before[name] != after[name] {
					t.Errorf("%s is a new one", name)
				}
			}
			if test.later == 0 {
				verify(t, files)
			}
		})
	}
}

// verify checks that the server's certificate is good for the hosts under the authority.
func verify(t *testing.T, files pki.Files) {
	t.Helper()
	read := func(path string) []byte {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(read(files.CA))
	block, _ := pem.Decode(read(files.Server.Cert))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range hosts {
		if _, err := cert.Verify(x509.VerifyOptions{Roots: pool, DNSName: host}); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func TestOrderKeysBelongTogether(t *testing.T) {
	t.Parallel()
	files := ensure(t, t.TempDir(), time.Now())
	private, err := os.ReadFile(files.OrderKey)
	if err != nil {
		t.Fatal(err)
	}
	public, err := os.ReadFile(files.OrderPublic)
	if err != nil {
		t.Fatal(err)
	}
	signing, err := order.ParsePrivateKey(secret.New(private))
	if err != nil {
		t.Fatal(err)
	}
	checking, err := order.ParsePublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	if !ed25519.Verify(checking, []byte("order"), ed25519.Sign(signing, []byte("order"))) {
		t.Error("the two halves are of different pairs")
	}
}

func TestRights(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ensure(t, dir, time.Now())
	for name := range contents(t, dir) {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Ext(name) == ".key" && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %04o", name, info.Mode().Perm())
		}
	}
}
