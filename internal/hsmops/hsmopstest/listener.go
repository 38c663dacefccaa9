package hsmopstest

import (
	"crypto/tls"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/keyward/keyward/internal/hsmops"
	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/internal/httpapi/httpapitest"
)

// Listener is an HTTPS server that trusts the certificates of some people.
type Listener struct {
	URL   string
	files map[string]hsmops.ClientConfig
}

// Listen serves the handler over mutual TLS until the end of the test. names get certificates that the server trusts.
func Listen(t testing.TB, handler http.Handler, names ...string) *Listener {
	t.Helper()
	l := &Listener{files: map[string]hsmops.ClientConfig{}}
	serverCert, serverKey := httpapitest.Certificate(t, "server")
	var trusted []byte
	for _, name := range names {
		cert, key := httpapitest.Certificate(t, name)
		l.files[name] = hsmops.ClientConfig{Cert: cert, Key: key, CA: serverCert}
		text, err := os.ReadFile(cert)
		if err != nil {
			t.Fatal(err)
		}
		trusted = append(trusted, text...)
	}
	authorities := filepath.Join(t.TempDir(), "clients.pem")
	if err := os.WriteFile(authorities, trusted, 0o600); err != nil {
		t.Fatal(err)
	}
	config, err := httpapi.ServerTLS(serverCert, serverKey, authorities)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(handler)
	server.TLS = config
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS()
	t.Cleanup(server.Close)
	l.URL = server.URL
	for name, c := range l.files {
		c.URL = l.URL
		l.files[name] = c
	}
	// Somebody whom the server does not know.
	cert, key := httpapitest.Certificate(t, "stranger")
	l.files["stranger"] = hsmops.ClientConfig{URL: l.URL, Cert: cert, Key: key, CA: serverCert}
	return l
}

// Config is how a person reaches the listener; "stranger" has a certificate that it does not trust.
func (l *Listener) Config(name string) hsmops.ClientConfig { return l.files[name] }

// Client is a client with the certificate of a person.
func (l *Listener) Client(t testing.TB, name string) *hsmops.Client {
	t.Helper()
	c, err := hsmops.NewClient(l.Config(name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TLS is the client's side of a person's connection, for tests that speak HTTP themselves.
func (l *Listener) TLS(t testing.TB, name string) *tls.Config {
	t.Helper()
	c := l.Config(name)
	config, err := httpapi.ClientTLS(c.Cert, c.Key, c.CA)
	if err != nil {
		t.Fatal(err)
	}
	return config
}
