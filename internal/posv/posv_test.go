package posv_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyward/keyward/internal/pgtest"
	"github.com/keyward/keyward/internal/posv"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/migrations"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const (
	patience = 20 * time.Second
	shop     = "104110000000001"
	t1       = "10000001"
	t2       = "10000002"
)

func psam(n int) string { return fmt.Sprintf("6%019d", n) }

// signing is the order key of the tests.
var signing = ed25519.NewKeyFromSeed([]byte("a seed for tests, 32 bytes long!"))

// system is a running posv and a client of it.
type system struct {
	db   *pgtest.DB
	app  *posv.App
	base string
	http *http.Client
}

// secretFile writes a file that only its owner reads.
func secretFile(t *testing.T, name string, content []byte) service.SecretFile {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return service.SecretFile(path)
}

func orderKey(t *testing.T) service.SecretFile {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(signing)
	if err != nil {
		t.Fatal(err)
	}
	return secretFile(t, "order.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// start runs posv on a database of its own; change may alter the configuration.
func start(t *testing.T, change func(*posv.Config)) *system {
	t.Helper()
	db := pgtest.New(t)
	cfg := posv.DefaultConfig()
	cfg.Profile = service.Dev
	cfg.API.Addr = "127.0.0.1:0"
	cfg.Database.URLFile = secretFile(t, "url", []byte(db.URL(migrations.RolePOSV)))
	cfg.Database.MaxConnections = 6
	cfg.OrderKeyFile = orderKey(t)
	if change != nil {
		change(&cfg)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	app, err := posv.New(posv.Options{Config: cfg, Registry: service.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		if err := app.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	if err := app.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &system{db: db, app: app, base: "http://" + app.Addr().String(), http: &http.Client{
		Transport: transport, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// reply is an answer with its body read.
type reply struct {
	status int
	header http.Header
	body   string
}

// do sends one request; headers are name, value pairs. A body that is not empty goes as JSON.
func (s *system) do(t *testing.T, method, path, body string, headers ...string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := s.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{res.StatusCode, res.Header, string(raw)}
}

// must sends a request that has to succeed, and decodes the answer.
func (s *system) must(t *testing.T, status int, method, path, body string, headers ...string) map[string]any {
	t.Helper()
	r := s.do(t, method, path, body, headers...)
	if r.status != status {
		t.Fatalf("%s %s: %d %s, want %d", method, path, r.status, r.body, status)
	}
	var out map[string]any
	if err := json.NewDecoder(bytes.NewBufferString(r.body)).Decode(&out); err != nil {
		t.Fatalf("%s %s: %v in %s", method, path, err, r.body)
	}
	return out
}

// fill registers a shop, two terminals and two personalised cards; the first card sits in the first terminal.
func (s *system) fill(t *testing.T) {
	t.Helper()
	s.must(t, 201, "PUT", "/v1/merchants/"+shop, `{"name":"Shop <b>&"}`)
	for _, id := range []string{t1, t2} {
		s.must(t, 201, "PUT", "/v1/terminals/"+id, `{"merchant_id":"`+shop+`"}`)
	}
	for n := 1; n <= 2; n++ {
		s.must(t, 201, "POST", "/v1/cards", `{"psam_no":"`+psam(n)+`"}`)
		s.must(t, 200, "POST", "/v1/cards/"+psam(n)+"/state", `{"state":"personalised","reason":"issued"}`, "X-Operator", "issuer")
	}
	s.must(t, 201, "PUT", "/v1/terminals/"+t1+"/card", `{"psam_no":"`+psam(1)+`","reason":"first"}`, "X-Operator", "li")
}
