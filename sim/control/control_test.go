package control_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/sim/control"
	"github.com/keyward/keyward/sim/control/controlclient"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testWait bounds every wait, so that a mistake fails instead of hanging.
const testWait = 20 * time.Second

const (
	testZPK       = "10204080010204080102040810204080"
	testZAK       = "08080808101010102020202040404040"
	testTransport = "40434546494A4C4F51525457585B5D5E"
)

func testConfig(t *testing.T) control.Config {
	t.Helper()
	dir := t.TempDir()
	return control.Config{
		Profile: service.Test, Listen: "127.0.0.1:0",
		HSMs: []control.HSM{
			{Name: "hsm1", Serial: "KW-0001", Ports: []control.Port{{Group: "online", Addr: "127.0.0.1:0"}, {Name: "cards", Group: "issuing", Addr: "127.0.0.1:0"}}},
			{Name: "hsm2", Ports: []control.Port{{Group: "all", Addr: "127.0.0.1:0"}}, LatencyMS: 1},
		},
		Bank:         control.Bank{Addr: "127.0.0.1:0", StateFile: filepath.Join(dir, "bank.json"), ZPK: control.Key{Value: testZPK}, ZAK: control.Key{Value: testZAK}},
		Cards:        control.Cards{Dir: filepath.Join(dir, "cards")},
		Terminals:    control.Terminals{StateDir: filepath.Join(dir, "terminals"), POSP: "127.0.0.1:1"},
		TransportKey: control.Key{Value: testTransport},
	}
}

// bench is a running app with two ways to call it.
type bench struct {
	*controlclient.Client
	base string
	http *http.Client
	app  *control.App
	log  *logBuffer
}

type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func start(t *testing.T, cfg control.Config) *bench {
	t.Helper()
	b := &bench{log: &logBuffer{}, http: &http.Client{Transport: &http.Transport{}, Timeout: testWait}}
	var err error
	b.app, err = control.New(cfg, slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), testWait)
	defer cancel()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testWait)
		defer cancel()
		b.http.CloseIdleConnections()
		if err := b.app.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	if err := b.app.Start(ctx); err != nil {
		t.Fatal(err)
	}
	b.base = "http://" + b.app.Addr().String()
	b.Client = controlclient.New(b.base, b.http)
	return b
}

// do calls the API with a raw body and returns status, media type and body.
func (b *bench) do(t *testing.T, method, path, body string) (int, string, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, b.base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := b.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // only read
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Content-Type"), string(raw)
}

func TestHealth(t *testing.T) {
	t.Parallel()
	b := start(t, testConfig(t))
	if err := b.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	for _, path := range []string{"/livez", "/openapi.json"} {
		if status, media, body := b.do(t, "GET", path, ""); status != 200 || media != "application/json" || !json.Valid([]byte(body)) {
			t.Errorf("%s: %d %s", path, status, media)
		}
	}
}

// TestRefusals checks that every refusal of the API, whoever gives it, is a problem document with the right status and no more
// than is said.
func TestRefusals(t *testing.T) {
	t.Parallel()
	b := start(t, testConfig(t))
	if err := b.BlankCard(t.Context(), "60000000000000000001"); err != nil {
		t.Fatal(err)
	}
	const card = "/v1/cards/60000000000000000001"
	cases := []struct {
		method, path, body string
		status             int
		detail             string
	}{
		{"GET", "/v1/nothing", "", 404, ""},
		{"PATCH", "/v1/hsms", "", 405, ""},
		{"GET", "/v1/hsms/hsm9/faults", "", 404, "no HSM of this name"},
		{"POST", "/v1/hsms/hsm9/mend", "", 404, "no HSM of this name"},
		{"PUT", "/v1/hsms/hsm1/faults", `{"latency":1}`, 400, "latency"},
		{"PUT", "/v1/hsms/hsm1/faults", `{"latency_ms":-1}`, 400, "negative"},
		{"PUT", "/v1/hsms/hsm1/faults", `{"hold":["QQ"]}`, 400, "unknown command"},
		{"PUT", "/v1/hsms/hsm1/faults", "", 415, ""},
		{"POST", "/v1/hsms/hsm1/break", `{"how":"hammer"}`, 400, "black_hole, refuse, reset, slow, stall, wrong_lmk, wrong_result"},
		{"POST", "/v1/hsms/hsm1/break", `{}`, 400, "black_hole, refuse, reset, slow, stall, wrong_lmk, wrong_result"},
		{"GET", "/v1/hsms/hsm1/history?limit=0", "", 400, "limit"},
		{"GET", "/v1/hsms/hsm1/history?limit=1001", "", 400, "limit"},
		{"POST", "/v1/hsms/hsm1/release", `{"command":"QQ"}`, 400, "host command"},
		{"GET", "/v1/hsms/hsm1/held", "", 400, "host command"},
		{"GET", "/v1/hsms/hsm1/held?command=M8&timeout=5", "", 400, "duration"},
		{"GET", "/v1/hsms/hsm1/held?command=M8&timeout=2m", "", 400, "duration"},
		{"PUT", "/v1/bank/faults", `{"faults":[{"kind":"rude"}]}`, 400, "unknown fault kind"},
		{"PUT", "/v1/bank/faults", `{"fault":[]}`, 400, ""},
		{"GET", "/v1/bank/history?limit=x", "", 400, "limit"},
		{"GET", "/v1/bank/nothing", "", 404, ""},
		{"POST", "/v1/cards", `{"psam_no":"1"}`, 400, "20 digits"},
		{"POST", "/v1/cards", `{"psam_no":"../../../../../etc/aa"}`, 400, "20 digits"},
		{"POST", "/v1/cards", `{"psam":"60000000000000000001"}`, 400, "psam"},
		{"POST", "/v1/cards/60000000000000000009/apdu", `{"apdu":"00"}`, 404, "no card of this number"},
		{"GET", "/v1/cards/60000000000000000009/history", "", 404, "no card of this number"},
		{"POST", "/v1/cards/7/reset", "", 400, "20 digits"},
		{"POST", card + "/apdu", `{"apdu":""}`, 400, "hex"},
		{"POST", card + "/apdu", `{"apdu":"0"}`, 400, "hex"},
		{"POST", card + "/apdu", `{"apdu":"0x"}`, 400, "hex"},
		{"POST", card + "/apdu", `{"apdu":"` + strings.Repeat("00", 262) + `"}`, 400, "hex"},
		{"GET", card + "/history?limit=-1", "", 400, "limit"},
		{"POST", "/v1/terminals", `{"terminal_id":"1000000"}`, 400, "default merchant"},
		{"POST", "/v1/terminals", `{"terminal_id":"../../xx","merchant_id":"104110000000001","psam_no":"60000000000000000001"}`, 400, "8 letters"},
		{"POST", "/v1/terminals", `{"terminal_id":"10000001","merchant_id":"1"}`, 400, "15 letters"},
		{"POST", "/v1/terminals", `{"terminal_id":"10000001","psam_no":"6"}`, 400, "20 digits"},
		{"POST", "/v1/terminals/10000077/signon", "", 404, "no such terminal"},
		{"POST", "/v1/terminals/10000001/dance", "", 404, "no such command"},
		{"POST", "/v1/terminals/10000001/purchase", `{"sum":1}`, 400, "body must be JSON"},
		{"GET", "/v1/terminals/10000077/history", "", 404, "no such terminal"},
		{"POST", "/v1/traffic", `{"rate_per_second":0,"terminals":["10000001"]}`, 400, "rate_per_second"},
		{"POST", "/v1/traffic", `{"rate_per_second":1001,"terminals":["10000001"]}`, 400, "rate_per_second"},
		{"POST", "/v1/traffic", `{"rate_per_second":1,"terminals":[]}`, 400, "terminals"},
		{"POST", "/v1/traffic", `{"rate_per_second":1,"terminals":["10000001","10000001"]}`, 400, "each once"},
		{"POST", "/v1/traffic", `{"rate_per_second":1,"terminals":["1"]}`, 400, "8 letters"},
	}
	for _, tc := range cases {
		status, media, body := b.do(t, tc.method, tc.path, tc.body)
		var problem struct {
			Status        int
			Title, Detail string
		}
		if err := json.Unmarshal([]byte(body), &problem); err != nil {
			t.Errorf("%s %s: no JSON: %v", tc.method, tc.path, err)
			continue
		}
		if status != tc.status || problem.Status != tc.status || media != "application/problem+json" || problem.Title == "" || !strings.Contains(problem.Detail, tc.detail) {
			t.Errorf("%s %s: %d %s %s, want %d with %q", tc.method, tc.path, status, media, body, tc.status, tc.detail)
		}
	}
}

func TestStopEndsWhatWaits(t *testing.T) {
	t.Parallel()
	b := start(t, testConfig(t))
	answered := make(chan error, 1)
	go func() {
		// Nothing is withheld, so this waits for the whole minute unless the stop ends it.
		_, err := b.WaitHeldHSM(context.Background(), "hsm1", "M8", time.Minute)
		answered <- err
	}()
	// The stop may come before the request; both orders must end.
	ctx, cancel := context.WithTimeout(t.Context(), testWait)
	defer cancel()
	if err := b.app.Stop(ctx); err != nil {
		t.Error(err)
	}
	select {
	case <-answered:
	case <-ctx.Done():
		t.Error("the waiting request did not end with the stop")
	}
	if err := b.app.Stop(ctx); err != nil {
		t.Errorf("second stop: %v", err)
	}
}

func TestAPortThatIsTakenIsAClearError(t *testing.T) {
	t.Parallel()
	b := start(t, testConfig(t))
	cfg := testConfig(t)
	cfg.Listen = b.app.Addr().String()
	other, err := control.New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot listen") {
		t.Errorf("error %v", err)
	}
	if err := other.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestNoSecretInLogOrAnswers(t *testing.T) {
	t.Parallel()
	b := start(t, testConfig(t))
	psam := "60000000000000000001"
	if err := b.BlankCard(t.Context(), psam); err != nil {
		t.Fatal(err)
	}
	const secret = "DEADBEEFCAFEF00D"
	_, _, body := b.do(t, "POST", "/v1/cards/"+psam+"/apdu", `{"apdu":"84D4000008`+secret+`"}`)
	_, _, history := b.do(t, "GET", "/v1/cards/"+psam+"/history", "")
	_, _, sale := b.do(t, "POST", "/v1/terminals/10000001/purchase", `{"amount":1,"pan":"6222020000000000018","pin":"987654"}`)
	for what, text := range map[string]string{"answer": body, "history": history, "sale": sale, "log": b.log.String()} {
		for _, hidden := range []string{secret, "6222020000000000018", "987654", testZPK, testZAK, testTransport} {
			if strings.Contains(strings.ToUpper(text), hidden) {
				t.Errorf("%s shows %s", what, hidden)
			}
		}
	}
	if !strings.Contains(history, `"header":"84D40000"`) {
		t.Errorf("history %s", history)
	}
	if b.log.String() == "" {
		t.Error("nothing was logged, so nothing was checked")
	}
}

func TestConfigFile(t *testing.T) {
	t.Parallel()
	good := `profile: dev
listen: 127.0.0.1:8090
hsms:
  - {name: hsm1, serial: KW-1, latency_ms: 2, ports: [{group: online, addr: "127.0.0.1:15001"}, {group: issuing, addr: "127.0.0.1:15011"}]}
bank: {addr: "127.0.0.1:7101", state_file: bank.json, issuer_code: "01020000", zpk: {value: "` + testZPK + `"}, zak: {file: zak.hex}}
cards: {dir: cards}
terminals: {state_dir: terminals, posp_addr: "127.0.0.1:7001", list: [{terminal_id: "10000001"}]}
transport_key: {value: "` + testTransport + `"}
traffic: {rate_per_second: 5, terminals: ["10000101"]}
`
	cases := []struct{ name, old, new, want string }{
		{"good", "", "", ""},
		{"production", "profile: dev", "profile: production", "dev or test"},
		{"no profile", "profile: dev\n", "", "dev or test"},
		{"unknown key", "listen:", "listens:", "listens"},
		{"group", "group: online", "group: offline", "online, issuing, migration or all"},
		{"name", "name: hsm1", "name: hsm/1", "letters, digits or hyphens"},
		{"address", "127.0.0.1:7001", "7001", "posp_addr"},
		{"directory", "dir: cards", `dir: ""`, "cards.dir"},
		{"rate", "rate_per_second: 5", "rate_per_second: 5000", "rate_per_second"},
	}
	for _, tc := range cases {
		path := filepath.Join(t.TempDir(), "sim.yaml")
		if err := os.WriteFile(filepath.Join(filepath.Dir(path), "zak.hex"), []byte(testZAK+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.Replace(good, tc.old, tc.new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		var cfg control.Config
		err := service.LoadConfig(path, &cfg)
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s: %v", tc.name, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: error %v, want %q", tc.name, err, tc.want)
		case err != nil && (strings.Contains(err.Error(), testZPK) || strings.Contains(err.Error(), testTransport)):
			t.Errorf("%s: the error shows a key", tc.name)
		}
	}
}

func TestNewRefusesBadParts(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name  string
		spoil func(*control.Config)
		want  string
	}{
		{"profile", func(c *control.Config) { c.Profile = service.Production }, "profile"},
		{"key", func(c *control.Config) { c.Bank.ZPK.Value = "12" }, "bank.zpk: need 32 hex digits"},
		{"no key", func(c *control.Config) { c.Bank.ZAK = control.Key{} }, "bank.zak: give either"},
		{"both", func(c *control.Config) { c.TransportKey.File = "x" }, "transport_key: give either"},
		{"no file", func(c *control.Config) { c.TransportKey = control.Key{File: "/nowhere"} }, "transport_key"},
		{"no port", func(c *control.Config) { c.HSMs[0].Ports = nil }, "hsm hsm1"},
		{"same port", func(c *control.Config) { c.HSMs[0].Ports[1].Name = "online" }, "used twice"},
		{"latency", func(c *control.Config) { c.HSMs[0].LatencyMS = -1 }, "latency_ms"},
		{"issuer", func(c *control.Config) { c.Bank.IssuerCode = "123456789012" }, "issuer code"},
		{"terminal", func(c *control.Config) { c.Terminals.List = []control.Terminal{{TerminalID: "x"}} }, "terminals.list"},
	}
	for _, tc := range cases {
		cfg := testConfig(t)
		tc.spoil(&cfg)
		if _, err := control.New(cfg, nil); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q", tc.name, err, tc.want)
		}
	}
}
