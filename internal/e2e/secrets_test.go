package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyward/keyward/internal/e2e/leak"
	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/internal/postgres"
)

// allowed are the files that hold secrets by design. Nothing else may.
var allowed = map[string]string{
	"config/sim.yaml":   "the simulators' file: public test values of ZPK, ZAK and the transport key, which a bank and a card maker would hold",
	"secrets/*.url":     "connection strings with the passwords of the database roles; mode 0600, in a directory of mode 0700",
	"pki/*.key":         "private keys of the certificates and of the orders; mode 0600, in a directory of mode 0700",
	"postgres/password": "the superuser's password, by which keyward dev reaches its private database; mode 0600",
	"password":          "the same, where the database lies outside the data directory",
}

// searchSecrets looks for every secret of the run in everything that the system has written and can be asked for.
func searchSecrets(t *testing.T, s *system) {
	db, err := pgx.Connect(t.Context(), superURL(t, s))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close(context.Background()) }()
	secrets := knownSecrets(t, s, db)
	scanner, err := leak.New(secrets...)
	if err != nil {
		t.Fatal(err)
	}
	s.askEverything(t)
	s.metricsOfTheManual(t)
	s.checksOfTheManual(t)

	begun := time.Now()
	var found []leak.Finding
	tables, size := dump(t, db, func(name string, rows []byte) { found = append(found, scanner.Bytes(name, rows)...) })
	s.showThatItCanFail(t, scanner, secrets, db)

	// What is in memory goes to disk at the end: files are searched afterwards.
	databasePlace := readText(t, filepath.Join(s.data, "database-directory"))
	s.stop(t)
	for where, text := range s.said {
		found = append(found, scanner.Bytes(where, text)...)
		size += len(text)
	}
	found = append(found, scanner.Bytes("output of keyward dev", s.out.Bytes())...)
	trees := []string{s.data}
	if filepath.Dir(databasePlace) != s.data {
		trees = append(trees, databasePlace)
	}
	var totals leak.Totals
	for _, tree := range trees {
		inFiles, n, err := scanner.Tree(tree, allowed)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, inFiles...)
		totals.Files, totals.Bytes = totals.Files+n.Files, totals.Bytes+n.Bytes
		for pattern, count := range n.Skipped {
			t.Logf("left out: %d of %s: %s", count, pattern, allowed[pattern])
		}
	}
	for _, f := range found {
		t.Errorf("leak: %s", f)
	}
	t.Logf("%d secrets searched in %d files (%d MB), %d tables and %d answers and outputs (%d kB) in %s",
		len(secrets), totals.Files, totals.Bytes>>20, tables, len(s.said), size>>10, time.Since(begun).Round(time.Millisecond))
	if totals.Files < 100 || tables < 20 || len(s.said) < 40 {
		t.Error("that is less than the system writes: the search is looking in the wrong place")
	}
}

// showThatItCanFail plants every secret in a table, in a file and behind a listener, and wants each found there.
func (s *system) showThatItCanFail(t *testing.T, scanner *leak.Scanner, secrets []leak.Secret, db *pgx.Conn) {
	t.Helper()
	planted := t.TempDir()
	exec := func(sql string, args ...any) {
		if _, err := db.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec("CREATE TEMPORARY TABLE planted (value bytea)")
	for i, secret := range secrets {
		exec("INSERT INTO planted VALUES ($1)", secret.Plain())
		if err := os.WriteFile(filepath.Join(planted, fmt.Sprint(i)), append([]byte("level=INFO msg="), secret.Plain()...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	inTable, inFile := map[string]bool{}, map[string]bool{}
	for _, f := range scanner.Bytes("planted", copyOut(t, db, "planted")) {
		inTable[f.Secret] = true
	}
	found, _, err := scanner.Tree(planted, allowed)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		inFile[f.Secret] = true
	}
	exec("DROP TABLE planted")
	for _, secret := range secrets {
		// Two names for one value (the PIN key of a repeated sign-on, say) are found under the first.
		if !inTable[secret.Name()] && len(scanner.Bytes("", secret.Plain())) == 0 {
			t.Errorf("the search does not find %s in a table", secret.Name())
		}
		if !inFile[secret.Name()] && len(scanner.Bytes("", secret.Plain())) == 0 {
			t.Errorf("the search does not find %s in a file", secret.Name())
		}
	}
	if len(inTable) < len(secrets)*9/10 || len(inFile) < len(secrets)*9/10 {
		t.Errorf("of %d planted secrets %d are found in a table and %d in files", len(secrets), len(inTable), len(inFile))
	}
}

// superPassword is the password of the private database's superuser.
func superPassword(t *testing.T, s *system) string {
	t.Helper()
	return strings.TrimSpace(readText(t, filepath.Join(readText(t, filepath.Join(s.data, "database-directory")), "password")))
}

func superURL(t *testing.T, s *system) string {
	t.Helper()
	// Line 4 of postmaster.pid is the port (PostgreSQL documentation, "pidfile.h").
	lines := strings.Split(readText(t, filepath.Join(readText(t, filepath.Join(s.data, "database-directory")), "data", "postmaster.pid")), "\n")
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(postgres.Superuser, superPassword(t, s)), Host: net.JoinHostPort("127.0.0.1", lines[3]),
		Path: "/keyward", RawQuery: "sslmode=disable",
	}
	return u.String()
}

func queryText(t *testing.T, db *pgx.Conn, sql string) []string {
	t.Helper()
	rows, err := db.Query(t.Context(), sql)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// dump gives the rows of every table of the database, as COPY writes them.
func dump(t *testing.T, db *pgx.Conn, each func(name string, rows []byte)) (tables, size int) {
	t.Helper()
	list := queryText(t, db, `SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') ORDER BY 1`)
	for _, name := range list {
		rows := copyOut(t, db, name)
		size += len(rows)
		each("table "+name, rows)
	}
	return len(list), size
}

func copyOut(t *testing.T, db *pgx.Conn, table string) []byte {
	t.Helper()
	var out bytes.Buffer
	if _, err := db.PgConn().CopyTo(t.Context(), &out, "COPY "+table+" TO STDOUT"); err != nil {
		t.Fatalf("copy table %s: %v", table, err)
	}
	return out.Bytes()
}

// askEverything asks all listeners for all that they show.
func (s *system) askEverything(t *testing.T) {
	t.Helper()
	for port, paths := range map[int][]string{
		8080: {
			"/", "/?lang=en", "/terminals/" + terminal, "/metrics", "/v1/overview", "/v1/merchants", "/v1/terminals", "/v1/terminals/" + terminal,
			"/v1/terminals/" + terminal + "/bindings", "/v1/terminals/" + terminal + "/events", "/v1/terminals/" + terminal + "/sign-ons",
			"/v1/cards", "/v1/cards/" + card, "/v1/orders", "/v1/audit", "/v1/audit/head",
		},
		8081: {"/metrics", "/v1/runs", "/v1/cards/" + card},
		8082: {"/metrics", "/v1/status", "/v1/cards/" + card},
		8090: {
			"/v1/hsms", "/v1/hsms/hsm1/history?limit=1000", "/v1/hsms/hsm2/history?limit=1000", "/v1/hsms/hsm3/history?limit=1000", "/v1/bank",
			"/v1/bank/history", "/v1/bank/book", "/v1/cards", "/v1/cards/" + card + "/history?limit=1000", "/v1/terminals",
			"/v1/terminals/" + terminal + "/history", "/v1/terminals/10000001/history", "/v1/traffic",
		},
	} {
		for _, path := range append(paths, "/livez", "/readyz", "/openapi.json") {
			status, body := s.ask(t, http.MethodGet, port, path, "")
			if status != http.StatusOK || len(body) == 0 {
				t.Errorf("GET %s on %d: %d, %d bytes", path, port, status, len(body))
			}
		}
	}
	s.askKeyService(t)
	s.askEvents(t)
	// Refusals quote nothing either.
	for port, path := range map[int]string{
		8080: "/v1/terminals/" + account, 8081: "/v1/cards/" + account, 8082: "/v1/cards/" + account, 8090: "/v1/terminals/" + terminal + "/purchase",
	} {
		status, body := s.ask(t, http.MethodPost, port, path, `{"pan":"`+stranger+`","pin":"`+wrongPIN+`","oops":1`)
		if status < 400 {
			t.Errorf("POST of nonsense on %d: %d %s", port, status, body)
		}
	}
}

var metricName = regexp.MustCompile("`((?:posp|posv|keyward)_[a-z_]+)`")

// metricsOfTheManual: what docs/operations.md tells operators to watch exists.
func (s *system) metricsOfTheManual(t *testing.T) {
	t.Helper()
	var all []byte
	for where, text := range s.said {
		if strings.HasSuffix(where, "/metrics") {
			all = append(all, text...)
		}
	}
	names := metricName.FindAllStringSubmatch(readText(t, "../../docs/operations.md"), -1)
	if len(names) < 15 {
		t.Errorf("docs/operations.md names only %d metrics", len(names))
	}
	for _, m := range names {
		if !bytes.Contains(all, []byte("# TYPE "+m[1]+" ")) {
			t.Errorf("docs/operations.md tells to watch %s, which no service has", m[1])
		}
	}
}

// checksOfTheManual: every check of a service's readiness has its line in docs/operations.md.
func (s *system) checksOfTheManual(t *testing.T) {
	t.Helper()
	manual := readText(t, "../../docs/operations.md")
	seen := 0
	for where, text := range s.said {
		if !strings.HasSuffix(where, "/readyz") {
			continue
		}
		var answer struct {
			Checks []struct {
				Name string `json:"name"`
			} `json:"checks"`
		}
		if err := json.Unmarshal(text, &answer); err != nil {
			t.Errorf("%s: %v", where, err)
		}
		for _, check := range answer.Checks {
			seen++
			if !strings.Contains(manual, "| `"+check.Name+"` |") && !strings.Contains(where, ":"+strconv.Itoa(8090+s.offset)) {
				t.Errorf("docs/operations.md does not tell what to do when the check %q of %s fails", check.Name, where)
			}
		}
	}
	if seen < 8 {
		t.Errorf("only %d checks seen", seen)
	}
}

// askKeyService asks the listener that wants a client certificate.
func (s *system) askKeyService(t *testing.T) {
	t.Helper()
	file := func(name string) string { return filepath.Join(s.data, "pki", name) }
	var config *tls.Config
	config, err := httpapi.ClientTLS(file("client-keyward-dev.crt"), file("client-keyward-dev.key"), file("ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: config}
	defer transport.CloseIdleConnections()
	for _, path := range []string{"/metrics", "/readyz", "/v1/cards/" + card} {
		if status, body := s.fetch(t, &http.Client{Transport: transport}, http.MethodGet, "https://"+s.addr(8083)+path, ""); status != http.StatusOK {
			t.Errorf("GET %s of the key service: %d %s", path, status, body)
		}
	}
}

// askEvents reads the stream of posp's messages until one that is made now, because the stream has no end.
func (s *system) askEvents(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr(8082)+"/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }() // only read
	last := s.sale(t, "00", "balance")
	var all []byte
	for piece := make([]byte, 4096); !bytes.Contains(all, []byte(`"trace":"`+last.Trace+`"`)); {
		n, err := res.Body.Read(piece)
		if err != nil {
			t.Fatalf("the stream of events ends without trace %s: %v", last.Trace, err)
		}
		all = append(all, piece[:n]...)
	}
	s.note("GET /v1/events", all)
	var event struct {
		Card string `json:"card"`
	}
	line, _, _ := bytes.Cut(all, []byte("\n"))
	if err := json.Unmarshal(bytes.TrimPrefix(line, []byte("data: ")), &event); err != nil {
		t.Errorf("first event: %v", err)
	}
}
