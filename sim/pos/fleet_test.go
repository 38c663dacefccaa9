package pos

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyward/keyward/sim/psam"
	"github.com/keyward/keyward/sim/psam/psamtest"
)

// testFleet is a fleet with the issued cards of some terminals in its store.
func testFleet(t *testing.T, h *host, terminals ...string) (*Fleet, FleetConfig) {
	t.Helper()
	dir := t.TempDir()
	store, err := psam.OpenStore(filepath.Join(dir, "cards"), testTransport)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range terminals {
		_, number, err := DefaultBinding(id)
		if err != nil {
			t.Fatal(err)
		}
		card, err := store.Blank(number)
		if err != nil {
			t.Fatal(err)
		}
		psamtest.Issue(t, card, testTransport, testRoot, nil)
	}
	cfg := FleetConfig{
		Store: store, StateDir: filepath.Join(dir, "terminals"),
		Terminal: Config{POSP: h.listener.Addr().String(), Timeout: 5 * time.Second, KeepOpen: true},
	}
	fleet, err := NewFleet(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := fleet.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return fleet, cfg
}

func TestFleetOverHTTP(t *testing.T) {
	t.Parallel()
	h := startHost(t)
	fleet, cfg := testFleet(t, h, "10000001", "10000002")
	if err := fleet.Add("10000001", "", ""); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(fleet.Routes())
	t.Cleanup(server.Close)
	call := func(method, path, body string, want int, into any) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		response, err := server.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		raw, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != want {
			t.Fatalf("%s %s: %d %s, %v", method, path, response.StatusCode, raw, err)
		}
		if strings.Contains(string(raw), testPAN) || strings.Contains(string(raw), testPIN) {
			t.Errorf("%s %s shows card data", method, path)
		}
		if into != nil {
			if err := json.Unmarshal(raw, into); err != nil {
				t.Fatal(err)
			}
		}
	}
	sale := `{"amount":1234,"pan":"` + testPAN + `","pin":"` + testPIN + `","entry":"swipe"}`
	var r Result
	call("POST", "/v1/terminals/10000001/signon", "", 200, &r)
	check(t, r, OutcomeApproved, "00")
	call("POST", "/v1/terminals/10000001/purchase", sale, 200, &r)
	check(t, r, OutcomeApproved, "00")
	// A terminal of the default numbering joins by itself when its card is there.
	call("POST", "/v1/terminals/10000002/signon", "{}", 200, &r)
	check(t, r, OutcomeApproved, "00")
	call("POST", "/v1/terminals/10000003/signon", "", 404, nil)
	call("POST", "/v1/terminals/elsewhere/signon", "", 404, nil)
	call("POST", "/v1/terminals/10000001/nonsense", sale, 404, nil)
	call("POST", "/v1/terminals/10000001/purchase", `{"pan":"`+testPAN+`","cvv":1}`, 400, nil)
	call("POST", "/v1/terminals/10000001/purchase", `{"pan":"`+strings.Repeat("1", maxBody)+`"}`, 400, nil)
	call("GET", "/v1/terminals/10000009/history", "", 404, nil)
	var list []Status
	call("GET", "/v1/terminals", "", 200, &list)
	if len(list) != 2 || list[0].ID != "10000001" || !list[0].SignedOn || list[0].Trace != 2 || list[0].PSAM != "60000000000000000001" || list[0].Last == nil || list[0].Last.Command != "purchase" {
		t.Errorf("list %+v", list)
	}
	var history []Result
	call("GET", "/v1/terminals/10000001/history", "", 200, &history)
	if len(history) != 2 || history[0].Command != "purchase" || history[0].Request == nil {
		t.Errorf("history of %d", len(history))
	}
	// A second fleet on the same directory goes on where this one stopped.
	second, err := NewFleet(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if s := second.Statuses(); len(s) != 2 || !s[0].SignedOn || s[0].Trace != 2 || s[0].Batch != "000001" {
		t.Errorf("after a restart %+v", s)
	}
}

func TestFleetRebind(t *testing.T) {
	t.Parallel()
	h := startHost(t)
	fleet, _ := testFleet(t, h, "10000001")
	if r, err := fleet.Do(t.Context(), "10000001", commandSignOn, Sale{}); err != nil || !r.SignedOn {
		t.Fatalf("%v %v", r, err)
	}
	if err := fleet.Add("10000001", "", "60000000000000000077"); err != nil {
		t.Fatal(err)
	}
	r, err := fleet.Do(t.Context(), "10000001", commandSignOn, Sale{})
	if err != nil || r.Outcome != OutcomeFailed || !strings.Contains(r.Error, "issuer card issue --psam 60000000000000000077") {
		t.Errorf("with an empty slot: %s %q %v", r.Outcome, r.Error, err)
	}
	for _, id := range []string{"1", "../../ab", "10000001x"} {
		if err := fleet.Add(id, testMerchant, testPSAM); err == nil {
			t.Errorf("terminal %q accepted", id)
		}
	}
	if _, err := fleet.Do(t.Context(), "20000001", commandEcho, Sale{}); !errors.Is(err, ErrNoTerminal) {
		t.Errorf("unknown terminal: %v", err)
	}
}

// TestFleetCloseCutsWaiting: a purchase that waits for an answer ends with the fleet, in doubt, and its reversal is noted.
func TestFleetCloseCutsWaiting(t *testing.T) {
	t.Parallel()
	h := startHost(t)
	fleet, cfg := testFleet(t, h, "10000001")
	if _, err := fleet.Do(t.Context(), "10000001", commandSignOn, Sale{}); err != nil {
		t.Fatal(err)
	}
	arrived := make(chan struct{})
	h.on(func(packet) ([]byte, bool) { close(arrived); return nil, false })
	request := httptest.NewRequest(http.MethodPost, "/v1/terminals/10000001/purchase", strings.NewReader(`{"amount":1,"pan":"`+testPAN+`"}`))
	recorder := httptest.NewRecorder()
	done := make(chan struct{})
	go func() { defer close(done); fleet.Routes().ServeHTTP(recorder, request) }()
	<-arrived
	if err := fleet.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-done
	var r Result
	if err := json.Unmarshal(recorder.Body.Bytes(), &r); err != nil || r.Outcome != OutcomeInDoubt || !r.PendingReversal {
		t.Errorf("result %s, %v", r.Outcome, err)
	}
	state, err := readState(filepath.Join(cfg.StateDir, "10000001.json"))
	if err != nil || state.Pending == nil || state.Pending.Trace != "000002" {
		t.Errorf("state %+v, %v", state, err)
	}
}

func TestHistoryIsBounded(t *testing.T) {
	t.Parallel()
	h := startHost(t)
	fleet, _ := testFleet(t, h, "10000001")
	for range historySize + 5 {
		if _, err := fleet.Do(t.Context(), "10000001", commandEcho, Sale{}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(fleet.all["10000001"].history); n != historySize {
		t.Errorf("%d results kept", n)
	}
}

func TestFleetRefusesDamagedState(t *testing.T) {
	t.Parallel()
	h := startHost(t)
	_, cfg := testFleet(t, h)
	if err := os.WriteFile(filepath.Join(cfg.StateDir, "10000001.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewFleet(cfg); err == nil {
		t.Error("accepted")
	}
	if _, err := NewFleet(FleetConfig{StateDir: t.TempDir()}); err == nil {
		t.Error("a fleet without cards was accepted")
	}
}

func TestTraffic(t *testing.T) {
	t.Parallel()
	h := startHost(t)
	fleet, _ := testFleet(t, h, "10000101", "10000102")
	traffic := &Traffic{Fleet: fleet, Rate: 500, Terminals: []string{"10000101", "10000102"}}
	if err := traffic.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := traffic.Start(t.Context()); err == nil {
		t.Error("started twice")
	}
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	for traffic.Counters().Approved < 10 {
		select {
		case <-deadline.C:
			t.Fatalf("counters %+v", traffic.Counters())
		case <-time.After(time.Millisecond): // polls a counter: the generator has no signal to wait for
		}
	}
	traffic.Stop()
	traffic.Stop()
	c := traffic.Counters()
	if c.SignOns != 2 || c.Failed != 0 || c.InDoubt != 0 {
		t.Errorf("counters %+v", c)
	}
	for _, bad := range []*Traffic{{Fleet: fleet, Rate: 0, Terminals: []string{"1"}}, {Fleet: fleet, Rate: maxRate + 1, Terminals: []string{"1"}}, {Fleet: fleet, Rate: 1}, {Rate: 1, Terminals: []string{"1"}}} {
		if err := bad.Start(t.Context()); err == nil {
			t.Error("a wrong setting was accepted")
			bad.Stop()
		}
	}
}
