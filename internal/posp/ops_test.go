package posp_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keyward/keyward/internal/posp"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/sim/bank"
)

// status asks the operations API.
func (s *system) status() posp.Status {
	s.t.Helper()
	response, err := http.Get("http://" + s.cfg.Operations.Addr + "/v1/status")
	s.must(err)
	defer func() { _ = response.Body.Close() }()
	var status posp.Status
	s.must(json.NewDecoder(response.Body).Decode(&status))
	return status
}

// TestOperationsAPI: status, readiness and the stream of events, which shows no secret.
func TestOperationsAPI(t *testing.T) {
	t.Parallel()
	s, w := signedOn(t)
	base := "http://" + s.cfg.Operations.Addr
	for path, code := range map[string]int{"/livez": 200, "/readyz": 200, "/metrics": 200, "/openapi.json": 200, "/v1/status": 200, "/nothing": 404} {
		response, err := http.Get(base + path)
		s.must(err)
		_ = response.Body.Close()
		if response.StatusCode != code {
			t.Errorf("%s answers %d, want %d", path, response.StatusCode, code)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/v1/events", nil)
	s.must(err)
	response, err := http.DefaultClient.Do(request)
	s.must(err)
	defer func() { _ = response.Body.Close() }()
	c := keyed(card1)
	wantCode(t, w.ask(w.signed(w.sale(4321, c))), "00")
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		line := lines.Text()
		if strings.Contains(line, card1) || strings.Contains(line, track1) {
			t.Fatalf("an event shows a card number")
		}
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok {
			continue
		}
		var e posp.Event
		s.must(json.Unmarshal([]byte(data), &e))
		if e.Kind == "purchase" {
			if e.Amount != 4321 || e.Code != "00" || e.Card != "622202*********0018" || e.Terminal != w.terminal || e.Took <= 0 {
				t.Errorf("event %+v", e)
			}
			break
		}
	}
	if st := s.status(); st.SignedOn != 1 || st.Terminals != 3 || st.DatabaseAway || st.Instance != "posp-test" {
		t.Errorf("status %+v", st)
	}
	// The open stream does not hold up the end.
	began := time.Now()
	s.stopPOSP()
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("stop took %s", took)
	}
}

// TestDrain: a request that was accepted before the stop is answered.
func TestDrain(t *testing.T) {
	t.Parallel()
	s, w := signedOn(t)
	s.must(s.bank.SetFaults(bank.Fault{Kind: bank.Hold, MTI: "0200", Next: 1}))
	p := w.sale(9, nil)
	w.send(w.signed(p))
	s.must(s.bank.WaitHeld(t.Context(), "0200"))
	stopped := make(chan struct{})
	go func() { s.stopPOSP(); close(stopped) }()
	s.await("the drain", func() bool {
		response, err := http.Get("http://" + s.cfg.Operations.Addr + "/readyz")
		if err != nil {
			return true
		}
		_ = response.Body.Close()
		return response.StatusCode == http.StatusServiceUnavailable
	})
	s.bank.Release()
	wantCode(t, w.answer(), "00")
	<-stopped
	if got := s.state(p); got != "approved" {
		t.Errorf("state %q", got)
	}
}

func operations(t testing.TB) service.ListenerConfig {
	return service.ListenerConfig{Addr: "127.0.0.1:" + freePort(t), Private: true}
}
