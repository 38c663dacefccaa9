package racal_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
	"github.com/keyward/keyward/sim/hsm"
)

// manyKeys are keys that differ, with their check values: an answer to another request shows itself.
func manyKeys(t *testing.T, d *hsm.Device, ask func(keys.Wrapped) (keys.KCV, error)) map[keys.KCV]keys.Wrapped {
	t.Helper()
	out := map[keys.KCV]keys.Wrapped{}
	for i := range 16 {
		clear := []byte(strings.Repeat("\x01", 14) + string([]byte{byte(i/8)<<4 | 1, byte(i%8)<<4 | 1}))
		key := variants(d).Wrap(domain)(t, keys.TerminalMaster, keys.SM4, secret.New(clear))
		kcv, err := ask(key)
		if err != nil {
			t.Fatal(err)
		}
		out[kcv] = key
	}
	if len(out) != 16 {
		t.Fatalf("%d different check values", len(out))
	}
	return out
}

// TestFaults: whatever a device does to its answers, nobody gets a wrong one, every failure is classed, and the channel knows when it
// must end.
func TestFaults(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		faults   hsm.Faults
		poisoned bool // ends because of what came
		lost     bool // ends without that
		all      bool // nobody is answered
	}{
		"slow":                     {faults: hsm.Faults{LatencyMS: 60_000}, all: true},
		"answers only some":        {faults: hsm.Faults{DropEvery: 3}},
		"swallows all":             {faults: hsm.Faults{BlackHole: true}, all: true},
		"stops reading":            {faults: hsm.Faults{Stall: true}, all: true},
		"another request's header": {faults: hsm.Faults{SwapHeaderEvery: 1, JitterMS: 5}, poisoned: true},
		"a header never sent":      {faults: hsm.Faults{WrongHeaderEvery: 3}, poisoned: true},
		"duplicates":               {faults: hsm.Faults{DuplicateEvery: 3}, poisoned: true},
		"garbage":                  {faults: hsm.Faults{GarbleEvery: 3}, poisoned: true},
		"cut, then closed":         {faults: hsm.Faults{CutEvery: 3, CutThen: "close"}, lost: true},
		"closes after some":        {faults: hsm.Faults{CloseAfter: 3}, lost: true},
		"resets after some":        {faults: hsm.Faults{CloseAfter: 3, Reset: true}, lost: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := device(t, hsm.Config{})
			client := open(t, d, nil)
			known := manyKeys(t, d, func(key keys.Wrapped) (keys.KCV, error) { return client.CheckValue(t.Context(), key) })
			if err := d.SetFaults(c.faults); err != nil {
				t.Fatal(err)
			}
			// Those who are not answered have to wait for it; the others need not be quick.
			wait := 500 * time.Millisecond
			if c.poisoned || c.lost {
				wait = patience
			}
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			defer cancel()
			var callers sync.WaitGroup
			var mu sync.Mutex
			right, failed := 0, 0
			for want, key := range known {
				callers.Go(func() {
					for range 4 {
						got, err := client.CheckValue(ctx, key)
						mu.Lock()
						if err == nil {
							right++
						} else {
							failed++
						}
						mu.Unlock()
						var e *command.Error
						switch {
						case err == nil && got != want:
							t.Errorf("a wrong answer: %s, want %s", got, want)
						case err != nil && (!errors.As(err, &e) || e.Class != command.MemberFault && e.Class != command.Unavailable):
							t.Errorf("not classed: %v", err)
						}
					}
				})
			}
			callers.Wait()
			if failed == 0 || c.all && right > 0 {
				t.Errorf("%d right, %d failed", right, failed)
			}
			ended := false
			select {
			case <-client.Channel.Done():
				ended = true
			default:
			}
			if ended != (c.poisoned || c.lost) || client.Channel.Poisoned() != c.poisoned {
				t.Errorf("ended %v, poisoned %v, cause %v", ended, client.Channel.Poisoned(), client.Channel.Cause())
			}
			if err := d.SetFaults(hsm.Faults{}); err != nil {
				t.Fatal(err)
			}
			again := open(t, d, nil)
			for want, key := range known {
				if got, err := again.CheckValue(t.Context(), key); err != nil || got != want {
					t.Errorf("afterwards: %s, %v, want %s", got, err, want)
				}
			}
		})
	}
}

// A cut answer whose rest does not come ends the channel after the frame time-out.
func TestCutAnswer(t *testing.T) {
	t.Parallel()
	d := device(t, hsm.Config{})
	if err := d.SetFaults(hsm.Faults{CutEvery: 5, CutThen: "stall"}); err != nil { // the proof takes four
		t.Fatal(err)
	}
	ch := open(t, d, nil, func(to *driver.Target) { to.FrameTimeout = 100 * time.Millisecond }).Channel
	_, err := ch.Exchange(t.Context(), []byte("NC"))
	if !errors.Is(err, driver.ErrLost) || ch.Poisoned() || !strings.Contains(fmt.Sprint(ch.Cause()), "cut") {
		t.Errorf("%v, cause %v", err, ch.Cause())
	}
}

// A device that takes connections only to close them, and one that is slow to serve them.
func TestOpenFaults(t *testing.T) {
	t.Parallel()
	d := device(t, hsm.Config{Faults: hsm.Faults{AcceptThenClose: true}})
	made := opener(t, nil)
	to := driver.Target{Name: "hsm1", Addr: d.Addr("all").String(), Depth: 8}
	if ch, err := made.Open(t.Context(), to); err == nil || ch != nil || !strings.Contains(err.Error(), "hsm1") {
		t.Errorf("opened, or %v", err)
	}
	if err := d.SetFaults(hsm.Faults{SlowAcceptMS: 60_000}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if ch, err := made.Open(ctx, to); err == nil || ch != nil {
		t.Errorf("opened, or %v", err)
	}
}
