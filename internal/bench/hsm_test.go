package bench

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyward/keyward/internal/bench/bare"
	"github.com/keyward/keyward/sim/hsm"
)

func newRig(t *testing.T) *hsmRig {
	t.Helper()
	rig, err := newHSMRig(t.Context(), filepath.Join(t.TempDir(), "journal"))
	if err != nil {
		t.Fatal(err)
	}
	return rig
}

func quiet(string, ...any) {}

// TestHSM takes every measurement of the HSM cluster once, as short as it can be. What it measures proves nothing.
func TestHSM(t *testing.T) {
	t.Parallel()
	rig := newRig(t)
	lines, err := rig.measureOne(t.Context(), 3, quiet)
	if err != nil {
		t.Fatal(err)
	}
	three, err := rig.measureThree(t.Context(), 50*time.Millisecond, quiet)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"hsm_cluster_one_per_s", "hsm_cluster_journal_per_s", "hsm_cluster_added_p50_ms", "hsm_cluster_added_p99_ms", "hsm_cluster_three_per_s"} {
		l := append(lines, three)[i]
		if l.Name != want || l.Baseline <= 0 || l.Against == "" || strings.HasSuffix(want, "_per_s") && (l.Value <= 0 || l.Ratio <= 0) {
			t.Errorf("%s: %+v", want, l)
		}
	}
}

// TestFailover takes a member out in both ways under load. The limits are for a machine with nothing else to do.
func TestFailover(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a heartbeat")
	}
	t.Parallel()
	rig := newRig(t)
	for name, faults := range map[string]hsm.Faults{"reset": {Refuse: true, Reset: true}, "silence": {BlackHole: true}} {
		got, err := rig.takeOut(t.Context(), 0, faults)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got.out <= 0 || got.longest <= 0 || got.before < failoverLatencyMS*time.Millisecond {
			t.Errorf("%s: %+v", name, got)
		}
		if name == "silence" && got.out < 500*time.Millisecond {
			t.Errorf("silence was noticed after %s, before any time-out", got.out)
		}
	}
}

// A device that computes wrong results makes both sides of a measurement fail: a fast wrong answer is worth nothing.
func TestWrongAnswers(t *testing.T) {
	t.Parallel()
	rig := newRig(t)
	g, err := rig.start(t.Context(), group{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := g.stop(); err != nil {
			t.Error(err)
		}
	}()
	client, err := bare.DialHSM(t.Context(), g.devices[0].Addr("all").String(), 2)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	p := pace{callers: 4, length: 20 * time.Millisecond}
	if r, _ := p.run(t.Context(), g.ask); r.Failed != nil || r.Done == 0 {
		t.Errorf("a healthy device: %d answers, %v", r.Done, r.Failed)
	}
	if err := g.devices[0].SetFaults(hsm.Faults{WrongResultEvery: 3}); err != nil {
		t.Fatal(err)
	}
	for name, do := range map[string]ask{"cluster": g.ask, "bare client": rig.askBare(client)} {
		if r, _ := p.run(t.Context(), do); r.Failed == nil || !strings.Contains(r.Failed.Error(), "wrong") {
			t.Errorf("%s: %v", name, r.Failed)
		}
	}
}

// TestPace: the open loop asks as often as it is told, a latency counts from when a request was due, and a failure ends everything.
func TestPace(t *testing.T) {
	t.Parallel()
	p := pace{callers: 2, rate: 100, length: 500 * time.Millisecond}
	if r, _ := p.run(t.Context(), func(context.Context) error { return nil }); r.Done < 10 || r.Done > 52 || r.Percentile(0) > 100*time.Millisecond {
		t.Errorf("%d requests in half a second at 100 per second, the fastest took %s", r.Done, r.Percentile(0))
	}
	// Each request takes as long as four may: the later ones have waited.
	if r, _ := p.run(t.Context(), func(context.Context) error { return rest(t.Context(), 80*time.Millisecond) }); r.Percentile(1) < 200*time.Millisecond {
		t.Errorf("the longest latency is %s, although requests had to wait for each other", r.Percentile(1))
	}
	broken := errors.New("broken")
	if r, _ := p.run(t.Context(), func(context.Context) error { return broken }); !errors.Is(r.Failed, broken) || r.Done != 0 {
		t.Errorf("%+v", r)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if r, _ := p.run(ended, func(context.Context) error { return nil }); r.Done != 0 || r.Failed != nil {
		t.Errorf("%+v", r)
	}
}
