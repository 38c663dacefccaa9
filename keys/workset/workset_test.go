package workset_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/keyward/keyward/keys/workset"
)

var start = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func pending(version uint64, at time.Time) *workset.Set {
	return &workset.Set{
		Version: version, State: workset.Pending, MadeAt: at, ExpiresAt: at.Add(workset.PendingLife),
		Request: [32]byte{byte(version)},
	}
}

func show(s *workset.Snapshot, now time.Time) string {
	out := ""
	for _, set := range s.Candidates(now) {
		out += fmt.Sprintf("%s%d ", set.State[:1], set.Version)
	}
	return out
}

// TestLife walks a terminal through sign-on, first use, second sign-on, grace, and the end of the grace.
func TestLife(t *testing.T) {
	t.Parallel()
	table := workset.New()
	steps := []struct {
		name string
		at   time.Duration
		do   func(now time.Time)
		want string
	}{
		{"nothing yet", 0, func(time.Time) {}, ""},
		{"first sign-on", 0, func(now time.Time) { table.AddPending("T", pending(1, now), now) }, "p1 "},
		{"first use", time.Second, func(now time.Time) { table.Activate("T", 1, now) }, "a1 "},
		{"activated twice is nothing", time.Second, func(now time.Time) {
			if got := table.Activate("T", 1, now); got != nil {
				t.Errorf("second activation changed %d sets", len(got))
			}
		}, "a1 "},
		{"second sign-on leaves the active set", time.Minute, func(now time.Time) { table.AddPending("T", pending(2, now), now) }, "a1 p2 "},
		{"forged sign-ons never push it out", time.Minute, func(now time.Time) {
			for v := uint64(3); v <= 9; v++ {
				dropped := table.AddPending("T", pending(v, now), now)
				if v >= 5 && (len(dropped) != 1 || dropped[0].Version != v-3 || dropped[0].State != workset.Expired) {
					t.Errorf("sign-on %d dropped %v", v, dropped)
				}
			}
		}, "a1 p9 p8 p7 "},
		{"use of a pending set", 2 * time.Minute, func(now time.Time) {
			if changed := table.Activate("T", 8, now); len(changed) != 3 {
				t.Errorf("changed %d sets, want activated, graced, expired", len(changed))
			}
		}, "a8 p9 g1 "},
		{"grace holds", 2*time.Minute + workset.GraceLife - 1, func(time.Time) {}, "a8 p9 g1 "},
		{"grace ends", 2*time.Minute + workset.GraceLife, func(time.Time) {}, "a8 p9 "},
		{"pending ends", workset.PendingLife + 90*time.Second, func(time.Time) {}, "a8 "},
		{"an expired pending set is not activated", workset.PendingLife + 90*time.Second, func(now time.Time) { table.Activate("T", 9, now) }, "a8 "},
		{"active holds", 2*time.Minute + workset.ActiveLife - 1, func(time.Time) {}, "a8 "},
		{"active ends", 2*time.Minute + workset.ActiveLife, func(time.Time) {}, ""},
		{"revoked", 27 * time.Hour, func(now time.Time) { table.Revoke("T", now) }, ""},
	}
	for _, step := range steps {
		now := start.Add(step.at)
		step.do(now)
		if got := show(table.Load("T"), now); got != step.want {
			t.Fatalf("%s: sets %q, want %q", step.name, got, step.want)
		}
	}
	if table.Len() != 0 {
		t.Fatalf("%d terminals left", table.Len())
	}
}

func TestSameRequestGivesTheSameSet(t *testing.T) {
	t.Parallel()
	table := workset.New()
	set := pending(1, start)
	table.AddPending("T", set, start)
	if got := table.Load("T").Same(set.Request, start); got == nil || got.Version != 1 {
		t.Fatal("the same request did not find its set")
	}
	if table.Load("T").Same([32]byte{9}, start) != nil {
		t.Fatal("another request found a set")
	}
	if table.Load("T").Same(set.Request, start.Add(workset.PendingLife)) != nil {
		t.Fatal("an expired set was found")
	}
	var none *workset.Snapshot
	if none.Candidates(start) != nil || none.Latest() != 0 || none.Same(set.Request, start) != nil {
		t.Fatal("a nil snapshot must be empty")
	}
}

// TestReadersSeeWholeSets runs readers against writers under the race detector: a snapshot never holds two active sets.
func TestReadersSeeWholeSets(t *testing.T) {
	t.Parallel()
	table := workset.New()
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				active := 0
				for _, s := range table.Load("T").Candidates(start) {
					if s.State == workset.Active {
						active++
					}
				}
				if active > 1 {
					t.Error("two active sets at once")
					return
				}
			}
		})
	}
	for v := uint64(1); v <= 2000; v++ {
		table.AddPending("T", pending(v, start), start)
		table.Activate("T", v, start)
	}
	close(stop)
	wg.Wait()
	if got := table.Load("T").Latest(); got != 2000 {
		t.Fatalf("latest version %d", got)
	}
}
