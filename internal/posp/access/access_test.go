package access_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyward/keyward/internal/posp/access"
	"github.com/keyward/keyward/internal/posp/access/accesstest"
)

func state(c *x509.Certificate) tls.ConnectionState {
	if c == nil {
		return tls.ConnectionState{}
	}
	return tls.ConnectionState{PeerCertificates: []*x509.Certificate{c}}
}

// config is a listener with everything.
func config(a *accesstest.Authority) access.Config {
	a.Issue("listener", time.Hour)
	cert, key := a.Pair("listener")
	return access.Config{Cert: cert, Key: key, CA: a.CA, Bind: true, Concentrators: []string{"conc-1"}, Revoked: []string{a.Revoked}}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	a := accesstest.New(t)
	cfg := config(a)
	own, other, concentrator := a.Issue("10000001", time.Hour), a.Issue("10000002", time.Hour), a.Issue("conc-1", time.Hour)
	ended, revoked := a.Issue("10000001", -time.Minute), a.Issue("10000001", time.Hour)
	a.Revoke(revoked)
	gate, err := access.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	unbound := cfg
	unbound.Bind = false
	open, err := access.New(unbound)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		gate  *access.Gate
		cert  *x509.Certificate
		bound bool
		err   error
	}{
		"own": {gate, own, true, nil}, "another's": {gate, other, false, access.ErrOtherTerminal}, "concentrator": {gate, concentrator, false, nil},
		"ended": {gate, ended, false, access.ErrNoStanding}, "revoked": {gate, revoked, false, access.ErrNoStanding},
		"none": {gate, nil, false, nil}, "another's, not bound": {open, other, false, nil}, "own, not demanded": {open, own, true, nil},
	} {
		if bound, err := tc.gate.Check(state(tc.cert), "10000001"); bound != tc.bound || !errors.Is(err, tc.err) {
			t.Errorf("%s: %v, %v; want %v, %v", name, bound, err, tc.bound, tc.err)
		}
	}
}

// TestRevokedLater: a certificate is revoked while its connection stands; a list that is damaged later changes nothing.
func TestRevokedLater(t *testing.T) {
	t.Parallel()
	a := accesstest.New(t)
	cfg := config(a)
	now := time.Now()
	cfg.Now = func() time.Time { return now }
	own := a.Issue("10000001", time.Hour)
	gate, err := access.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	check := func() error { _, err := gate.Check(state(own), "10000001"); return err }
	later := func() {
		now = now.Add(11 * time.Second)
		// The clock of the file system may be coarse: the change must show in the file's time.
		if err := os.Chtimes(a.Revoked, now, now); err != nil {
			t.Fatal(err)
		}
	}
	if err := check(); err != nil {
		t.Fatal(err)
	}
	a.Revoke(own)
	later()
	if err := check(); !errors.Is(err, access.ErrNoStanding) || !strings.Contains(err.Error(), "was revoked at") {
		t.Fatalf("after the revocation: %v", err)
	}
	if err := os.WriteFile(a.Revoked, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	later()
	if err := check(); !errors.Is(err, access.ErrNoStanding) {
		t.Fatalf("a damaged list lets the revoked in: %v", err)
	}
	a.Revoke()
	later()
	if err := check(); err != nil {
		t.Fatalf("after the list was emptied: %v", err)
	}
}

func TestRefusedConfigurations(t *testing.T) {
	t.Parallel()
	a, foreign := accesstest.New(t), accesstest.New(t)
	good := config(a)
	for name, tc := range map[string]struct {
		change func(*access.Config)
		want   string
	}{
		"no certificate":   {func(c *access.Config) { c.Cert = "none.crt" }, "none.crt"},
		"foreign key":      {func(c *access.Config) { foreign.Issue("x", time.Hour); _, c.Key = foreign.Pair("x") }, "private key does not match"},
		"no authority":     {func(c *access.Config) { c.CA = "none.crt" }, "authorities of the terminals"},
		"authority is key": {func(c *access.Config) { c.CA = good.Key }, "holds no certificate"},
		"no list":          {func(c *access.Config) { c.Revoked = []string{"none.crl"} }, "none.crl"},
		"list of others":   {func(c *access.Config) { c.Revoked = []string{foreign.Revoked} }, "signed by none of the listener's authorities"},
		"list is none":     {func(c *access.Config) { c.Revoked = []string{c.CA} }, "one list in PEM or DER form"},
		"own one ended":    {func(c *access.Config) { a.Issue("old", -time.Minute); c.Cert, c.Key = a.Pair("old") }, "renew it"},
		"bound to nothing": {func(c *access.Config) { c.Ask = access.None }, "client_certificate"},
	} {
		cfg := good
		tc.change(&cfg)
		if _, err := access.New(cfg); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q in it", name, err, tc.want)
		}
	}
	if _, err := access.New(good); err != nil {
		t.Error(err)
	}
	var c access.Clients
	if c.UnmarshalText([]byte("maybe")) == nil || c.UnmarshalText([]byte("optional")) != nil || c != access.Optional {
		t.Error("client_certificate is not checked")
	}
}

// FuzzRevocationList: no bytes in a list's file may do more than be refused.
func FuzzRevocationList(f *testing.F) {
	a := accesstest.New(f)
	cfg := config(a)
	seed, err := os.ReadFile(a.Revoked)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte("-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n"))
	path := filepath.Join(f.TempDir(), "list")
	cfg.Revoked = []string{path}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := access.New(cfg); err != nil && !strings.Contains(err.Error(), path) {
			t.Errorf("the error does not name the file: %v", err)
		}
	})
}
