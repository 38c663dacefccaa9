package hsmclient_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/hsmclient/member"
)

// A key is stored once or the outcome is unknown: whatever the device does, no request reaches the devices twice.
func TestStoreKeyIsNeverSentTwice(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]struct {
		say  string // of a, which is asked first
		want command.Class
		sent int // to both
	}{
		"stored":        {"00", 0, 1},
		"no answer":     {"", command.Unknown, 1},
		"reset":         {"close", command.Unknown, 1},
		"nonsense":      {"!!", command.CallerFault, 1}, // a code that the driver does not know
		"device fault":  {"41", command.MemberFault, 1},
		"not licensed":  {"68", 0, 2}, // nothing was done: another may be asked
		"other's error": {"15", command.CallerFault, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, a, b := fakePair(t, hsmclient.Config{Timeout: 300 * time.Millisecond})
			if err := c.Modify(act, "b", member.Change{Priority: ptr(2)}); err != nil {
				t.Fatal(err)
			}
			a.answer(func(code, _ string, _ int) string {
				if code == "SK" {
					return s.say
				}
				return "00"
			})
			err := storeKey(c, "key")
			if (err == nil) != (s.want == 0) || err != nil && command.ClassOf(err) != s.want {
				t.Errorf("got %v", err)
			}
			if s.want == command.Unknown && !strings.Contains(err.Error(), "never sent twice") {
				t.Errorf("the error does not say what to do: %v", err)
			}
			if sent := a.count("SKkey") + b.count("SKkey"); sent != s.sent {
				t.Errorf("sent %d times, want %d", sent, s.sent)
			}
		})
	}
}

// A malformed answer to what must not be sent twice leaves the outcome unknown too.
func TestStoreKeyMalformedAnswer(t *testing.T) {
	t.Parallel()
	a := newFakeDevice(t)
	c := startFakes(t, hsmclient.Config{}, fakeSpec("a", a))
	a.answer(func(code, _ string, _ int) string {
		if code == "SK" {
			return "00other"
		}
		return "00"
	})
	if err := storeKey(c, "key"); command.ClassOf(err) != command.Unknown || !errors.Is(err, driver.ErrMalformed) {
		t.Errorf("got %v", err)
	}
	eventually(t, "the channel is poisoned", func() bool {
		s, err := c.Member("a")
		return err == nil && s.Traffic.Poisoned == 1
	})
}

// A member is killed with TCP resets again and again under load: no repeatable request fails, nothing that must not be sent twice is,
// and every key of which the caller was told success is there.
func TestResetUnderLoad(t *testing.T) {
	t.Parallel()
	c, a, b := fakePair(t, hsmclient.Config{Readmit: member.Working, Probing: quick})
	var failed, unknown, done atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	for i := range 8 {
		callers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if _, err := c.Random(context.Background(), n); err != nil {
					failed.Add(1)
					t.Errorf("a repeatable request: %v", err)
					return
				}
				done.Add(1)
			}
		})
		callers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				label := fmt.Sprintf("%d-%d", i, n)
				err := storeKey(c, label)
				switch there := a.count("SK"+label) + b.count("SK"+label); {
				case err == nil && there != 1, there > 1:
					t.Errorf("key %s was sent %d times: %v", label, there, err)
				case err != nil && command.ClassOf(err) != command.Unknown:
					t.Errorf("key %s: %v", label, err)
				case err != nil:
					unknown.Add(1)
				}
			}
		})
	}
	for range 6 {
		before := done.Load()
		eventually(t, "traffic flows", func() bool { return done.Load() > before+200 })
		a.reset()
		waitStates(t, c, map[string]member.State{"a": member.Working})
	}
	cancel()
	callers.Wait()
	for _, d := range []*fakeDevice{a, b} {
		for request, n := range d.counts("SK") {
			if n > 1 {
				t.Errorf("%s was sent %d times", request, n)
			}
		}
	}
	t.Logf("%d requests, %d unknown outcomes", done.Load(), unknown.Load())
}
