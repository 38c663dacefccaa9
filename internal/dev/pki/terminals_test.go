package pki_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/keyward/keyward/internal/dev/pki"
)

// TestTerminals: each terminal has a certificate with its number, of an authority of its own, and a second call keeps them and the
// revocation list.
func TestTerminals(t *testing.T) {
	t.Parallel()
	dir, now := t.TempDir(), time.Now()
	services := ensure(t, dir, now)
	make := func(numbers ...string) pki.Terminals {
		t.Helper()
		files, err := pki.EnsureTerminals(filepath.Join(dir, "terminals"), hosts, numbers, now)
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	files := make("10000001")
	leaf := func(path string) *x509.Certificate {
		t.Helper()
		pair, err := tls.LoadX509KeyPair(path+".crt", path+".key")
		if err != nil {
			t.Fatal(err)
		}
		return pair.Leaf
	}
	pool := func(path string) *x509.CertPool {
		t.Helper()
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		p := x509.NewCertPool()
		p.AppendCertsFromPEM(raw)
		return p
	}
	client := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	first := leaf(filepath.Join(files.Dir, "10000001"))
	if _, err := first.Verify(x509.VerifyOptions{Roots: pool(files.CA), KeyUsages: client}); err != nil || first.Subject.CommonName != "10000001" {
		t.Errorf("%q: %v", first.Subject.CommonName, err)
	}
	if _, err := first.Verify(x509.VerifyOptions{Roots: pool(services.CA), KeyUsages: client}); err == nil {
		t.Error("a terminal's certificate is good for the services")
	}
	server := leaf(files.Server.Cert[:len(files.Server.Cert)-len(".crt")])
	if _, err := server.Verify(x509.VerifyOptions{Roots: pool(files.CA), DNSName: "localhost"}); err != nil {
		t.Errorf("listener: %v", err)
	}
	before, err := os.ReadFile(files.Revoked)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(before)
	if list, err := x509.ParseRevocationList(block.Bytes); err != nil || len(list.RevokedCertificateEntries) != 0 {
		t.Errorf("revocation list: %v", err)
	}
	make("10000001", "10000002")
	after, err := os.ReadFile(files.Revoked)
	if err != nil || string(after) != string(before) {
		t.Errorf("the revocation list was made again: %v", err)
	}
	if again := leaf(filepath.Join(files.Dir, "10000001")); !again.Equal(first) {
		t.Error("a good certificate was made again")
	}
	leaf(filepath.Join(files.Dir, "10000002"))
	if err := os.WriteFile(files.Revoked, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.EnsureTerminals(files.Dir, hosts, nil, now); err == nil {
		t.Error("a damaged revocation list is overwritten without a word")
	}
}
