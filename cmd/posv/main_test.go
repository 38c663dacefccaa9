package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/keyward/keyward/internal/pgtest"
	"github.com/keyward/keyward/internal/postgres"
	"github.com/keyward/keyward/internal/posv"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/migrations"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const patience = 20 * time.Second

// system is a posv with its database.
type system struct {
	db  *pgtest.DB
	api string
}

// config writes a configuration file with its secrets.
func config(t *testing.T, db *pgtest.DB) string {
	t.Helper()
	dir := t.TempDir()
	der, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed([]byte("a seed for tests, 32 bytes long!")))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{
		"url": []byte(db.URL(migrations.RolePOSV)), "order.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		"posv.yaml": []byte("profile: dev\nlog: {level: error, format: text}\ndatabase: {url_file: url, max_connections: 4}\napi: {addr: '127.0.0.1:0'}\norder_key_file: order.pem\n"),
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "posv.yaml")
}

func start(t *testing.T) *system {
	t.Helper()
	db := pgtest.New(t)
	cfg := posv.DefaultConfig()
	if err := service.LoadConfig(config(t, db), &cfg); err != nil {
		t.Fatal(err)
	}
	app, err := posv.New(posv.Options{Config: cfg, Registry: service.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		if err := app.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	if err := app.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &system{db, "http://" + app.Addr().String()}
}

// posv runs a command and returns its exit code and output.
func (s *system) posv(args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = run(append(args, "--api", s.api), &o, &e)
	return code, o.String(), e.String()
}

func TestCommands(t *testing.T) {
	t.Parallel()
	s := start(t)
	const card = "60000000000000000001"
	steps := []struct {
		args string
		code int
		want string // part of the output, or of the errors for a code other than 0
	}{
		{"terminal list", 0, "TERMINAL"},
		{"terminal add 10000001 --merchant 104110000000001", 1, "PUT /v1/merchants/104110000000001"},
		{"terminal add 10000001 --merchant 104110000000001 --merchant-name Shop --operator li", 0, "10000001"},
		{"terminal add 10000001 --merchant 104110000000001 --algorithm sm4", 0, "sm4"},
		{"terminal bind 10000001 --psam " + card, 1, "POST /v1/cards"},
		{"terminal suspend 10000001 --reason theft", 0, "suspended"},
		{"terminal activate 10000001 --reason found --output json", 0, `"state": "active"`},
		{"terminal list --state active", 0, "never"},
		{"terminal list --state active --output json", 0, `"key_state": "never"`},
		{"terminal show 10000001", 0, "Shop"},
		{"terminal show 1", 1, "not registered"},
		{"card list", 0, "CARD"},
		{"card show " + card, 1, "not registered"},
		{"order create --psam-from " + card + " --count 3 --operator li", 0, "draft, 2 more to approve"},
		{"order create --psam-from 1", 1, "20 digits"},
		{"order list --state draft", 0, "0 of 3"},
		{"order approve x", 1, "no such order"},
		{"audit verify", 0, "The chain of"},
		{"terminal", 2, "needs a command"},
		{"terminal sell", 2, "unknown command"},
		{"nonsense", 2, "unknown command"},
		{"terminal show", 2, "accepts 1 arg"},
		{"terminal add 10000001", 2, "merchant"},
		{"terminal list --nonsense", 2, "unknown flag"},
		{"terminal list --output xml", 2, "table or json"},
		{"terminal list --cert x", 2, "belong together"},
		{"audit verify --head 3", 2, "NUMBER:HASH"},
		{"card list --token-file /gone", 1, "--token-file"},
	}
	for _, step := range steps {
		code, out, errs := s.posv(strings.Fields(step.args)...)
		shown := out
		if step.code != 0 {
			shown = errs
		}
		if code != step.code || !strings.Contains(shown, step.want) {
			t.Errorf("posv %s: exit %d\n%s%s\nwant exit %d with %q", step.args, code, out, errs, step.code, step.want)
		}
	}
	away := &system{api: "http://127.0.0.1:1"}
	if code, _, errs := away.posv("card", "list"); code != 1 || !strings.Contains(errs, "posv serve") {
		t.Errorf("exit %d, %s", code, errs)
	}
}

func TestOrderIsSignedByTwo(t *testing.T) {
	t.Parallel()
	s := start(t)
	_, out, _ := s.posv("order", "create", "--psam-from", "60000000000000000001", "--output", "json")
	var o struct {
		ID string `json:"order_id"`
	}
	if err := json.Unmarshal([]byte(out), &o); err != nil || o.ID == "" {
		t.Fatalf("%s: %v", out, err)
	}
	for operator, want := range map[string]string{"li": "draft, 1 more"} {
		if code, out, errs := s.posv("order", "approve", o.ID, "--operator", operator); code != 0 || !strings.Contains(out, want) {
			t.Fatalf("exit %d %s%s", code, out, errs)
		}
	}
	if code, out, _ := s.posv("order", "approve", o.ID, "--operator", "wang"); code != 0 || !strings.Contains(out, "signed") || !strings.Contains(out, "li wang") {
		t.Fatalf("exit %d %s", code, out)
	}
}

// TestAuditVerifyFindsChanges: rows changed by the superuser, and a chain that was rewritten as a whole against a noted head.
func TestAuditVerifyFindsChanges(t *testing.T) {
	t.Parallel()
	s := start(t)
	for range 3 {
		if code, _, errs := s.posv("order", "create", "--psam-from", "60000000000000000001"); code != 0 {
			t.Fatal(errs)
		}
	}
	_, out, _ := s.posv("audit", "verify")
	head := regexp.MustCompile(`3:[0-9a-f]{64}`).FindString(out)
	if code, _, errs := s.posv("audit", "verify", "--head", head); code != 0 || head == "" {
		t.Fatalf("head %q: %s", head, errs)
	}
	if code, _, errs := s.posv("audit", "verify", "--head", "4"+head[1:]); code != 1 || !strings.Contains(errs, "record 4") {
		t.Errorf("a noted record is missing: exit %d %s", code, errs)
	}
	if code, _, errs := s.posv("audit", "verify", "--head", "2"+head[1:]); code != 1 || !strings.Contains(errs, "record 2") {
		t.Errorf("another chain: exit %d %s", code, errs)
	}
	if _, err := s.db.Pool(t, postgres.Superuser).Exec(t.Context(), "UPDATE audit SET actor = 'nobody' WHERE seq = 2"); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := s.posv("audit", "verify"); code != 1 || !strings.Contains(errs, "broken at record 2") {
		t.Errorf("exit %d %s", code, errs)
	}
}

func TestServe(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // the signal came before: it starts, or says that it was stopped, and ends in order
	if err := serve(ctx, config(t, pgtest.New(t))); err != nil && !strings.Contains(err.Error(), "context canceled") {
		t.Errorf("%v", err)
	}
	if code := run([]string{"serve", "--config", "/gone"}, &bytes.Buffer{}, &bytes.Buffer{}); code != 1 {
		t.Errorf("exit %d for a configuration that is missing", code)
	}
	if code := run([]string{"serve"}, &bytes.Buffer{}, &bytes.Buffer{}); code != 2 {
		t.Errorf("exit %d without a configuration", code)
	}
}
