package bench

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keyward/keyward/internal/postgres"
	"github.com/keyward/keyward/sim/load"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOptions(t *testing.T) {
	t.Parallel()
	cases := []struct {
		opt  Options
		want string
	}{
		{Options{Duration: time.Second, Terminals: 1}, "--duration"},
		{Options{Duration: time.Minute}, "--terminals"},
		{Options{Duration: time.Minute, Terminals: 10_000}, "--terminals"},
		{Options{Duration: time.Minute, Terminals: 2, Connections: 3}, "--connections"},
		{Options{Duration: time.Minute, Terminals: 2, Only: "bank"}, "--only"},
	}
	for _, tc := range cases {
		if _, err := Run(t.Context(), tc.opt, io.Discard); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: error %v, want %q", tc.opt, err, tc.want)
		}
	}
	opt := Options{Duration: time.Minute, Terminals: 7}
	if err := opt.complete(); err != nil || opt.Connections != 7 {
		t.Errorf("%+v %v", opt, err)
	}
}

func slicesOf(done ...int) slices {
	var s slices
	for _, n := range done {
		r := load.Result{Done: n, Took: time.Second}
		for i := range n {
			r.Latency = append(r.Latency, time.Duration(i+1)*time.Millisecond)
		}
		s = append(s, r)
	}
	return s
}

func TestReport(t *testing.T) {
	t.Parallel()
	both := sides{posp: slicesOf(100, 10, 40), relay: slicesOf(80, 200, 90)}
	var r Report
	r.fill(both, both, both, counts{hsm: 500, commits: 30}, 20)
	find := func(name string) Line {
		for _, l := range r.Lines {
			if l.Name == name {
				return l
			}
		}
		t.Fatalf("no figure %s", name)
		return Line{}
	}
	if l := find("purchase_pin_per_s"); l.Value != 40 || l.Baseline != 90 || l.Ratio != 0.444 || l.Unit != "1/s" || l.Against != "bare relay" {
		t.Errorf("%+v", l)
	}
	if l := find("signon_per_s"); l.Value != 40 {
		t.Errorf("%+v", l)
	}
	// The p99 of 100, 10 and 40 messages are 100, 10 and 40 ms, of the relay 80, 199 and 90 ms: medians 40 and 90.
	if l := find("purchase_pin_added_p99_ms"); l.Value != -50 || l.Baseline != 90 {
		t.Errorf("%+v", l)
	}
	path := filepath.Join(t.TempDir(), "reports", "bench.json")
	if err := r.Write(path); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var back []Line
	if err := json.Unmarshal(raw, &back); err != nil || len(back) != len(r.Lines) || back[1] != r.Lines[1] {
		t.Errorf("%v %s", err, raw)
	}
	var out strings.Builder
	if err := r.Print(&out); err != nil || !strings.Contains(out.String(), "purchase_pin_added_p99_ms") {
		t.Errorf("%v %s", err, out.String())
	}
}

func TestAMedianOfNothing(t *testing.T) {
	t.Parallel()
	if v := (slices{}).perSecond(); v != 0 {
		t.Error(v)
	}
}

// TestSystem brings the whole system up with posp inside, has every terminal sign on and pay through posp and through the relay, and
// takes it down. It measures nothing.
func TestSystem(t *testing.T) {
	if testing.Short() {
		t.Skip("starts PostgreSQL")
	}
	t.Parallel()
	opt := Options{Duration: time.Minute, Terminals: 3, Connections: 2, CPUProfile: "inside"}
	s, err := startSystem(t.Context(), opt)
	defer func() {
		if err := s.stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
		if _, err := os.Stat(s.dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", s.dir, err)
		}
	}()
	if errors.Is(err, postgres.ErrUnavailable) {
		t.Skip("PostgreSQL is not available: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.pospFleet.Once(load.Purchase), s.relayFleet.Once(load.Purchase)); err != nil {
		t.Error(err)
	}
	if booked := s.bank.Book().Totals.Booked; booked != 12 {
		t.Errorf("the bank booked %d purchases, want 12", booked)
	}
	if c, err := s.count(t.Context()); err != nil || c.hsm == 0 || c.commits == 0 {
		t.Errorf("counts %+v %v", c, err)
	}
}
