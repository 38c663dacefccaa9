package hsmclient_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
	"github.com/keyward/keyward/sim/hsm"
)

// eventually tries until the check passes; the pause keeps the machine free, there is no signal for "the link is back".
func eventually(t testing.TB, what string, check func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !check(); {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", patience, what)
		}
		time.Sleep(5 * time.Millisecond) // polling, see above
	}
}

func randoms(c *hsmclient.Cluster) error {
	_, err := c.Random(context.Background(), 8)
	return err
}

// One of two members dies with requests in flight: every one of them is answered by the other.
func TestMemberDiesInFlight(t *testing.T) {
	t.Parallel()
	a, b := device(t, hsm.Config{}), device(t, hsm.Config{})
	c := start(t, hsmclient.Config{Members: []member.Spec{spec("a", a), spec("b", b)}, Readmit: member.Working})
	eventually(t, "both members work", func() bool {
		return randoms(c) == nil && count(a, "N0") > 0 && count(b, "N0") > 0
	})
	setFaults(t, a, hsm.Faults{Hold: []string{"N0"}})
	const callers = 40
	errs := make(chan error, callers)
	for range callers {
		go func() { errs <- randoms(c) }()
	}
	waitHeld(t, a)
	setFaults(t, a, hsm.Faults{Refuse: true, Hold: []string{"N0"}}) // still held, so that no answer slips out
	for range callers {
		if err := <-errs; err != nil {
			t.Errorf("a command was lost: %v", err)
		}
	}
	if err := randoms(c); err != nil {
		t.Errorf("after the death of one member: %v", err)
	}
	setFaults(t, a, hsm.Faults{}) // mended: it comes back by itself
	before := count(a, "N0")
	eventually(t, "the mended member works again", func() bool { return randoms(c) == nil && count(a, "N0") > before })
}

func count(d *hsm.Device, code string) (n int) {
	for _, e := range d.History(1000) {
		if e.Command == code {
			n++
		}
	}
	return n
}

// The only member goes: a clear error at once, never a hang; and back by itself.
func TestOnlyMemberGoesAndComesBack(t *testing.T) {
	t.Parallel()
	d := device(t, hsm.Config{})
	c := start(t, hsmclient.Config{Members: []member.Spec{spec("a", d)}})
	setFaults(t, d, hsm.Faults{Refuse: true})
	eventually(t, "the client notices", func() bool { return command.ClassOf(randoms(c)) == command.Unavailable && randoms(c) != nil })
	began := time.Now()
	err := randoms(c)
	if took := time.Since(began); command.ClassOf(err) != command.Unavailable || took > 2*time.Second {
		t.Errorf("after %s: %v", took, err)
	}
	if !strings.Contains(fmt.Sprint(err), "no member is connected; a: ") {
		t.Errorf("the error does not say why: %v", err)
	}
	setFaults(t, d, hsm.Faults{})
	eventually(t, "the member is back", func() bool { return randoms(c) == nil })
}

// A member that swallows everything: the command ends in time, the other member takes over, and the channel is closed.
func TestBlackHole(t *testing.T) {
	t.Parallel()
	a, b := device(t, hsm.Config{}), device(t, hsm.Config{})
	c := start(t, hsmclient.Config{Members: []member.Spec{spec("a", a), spec("b", b)}, Timeout: 200 * time.Millisecond})
	eventually(t, "both members work", func() bool {
		return randoms(c) == nil && count(a, "N0") > 0 && count(b, "N0") > 0
	})
	setFaults(t, a, hsm.Faults{BlackHole: true})
	for range 6 {
		if err := randoms(c); err != nil {
			t.Fatalf("a command was lost: %v", err)
		}
	}
	// Now a does not even answer its diagnosis: all commands go to b, at its speed.
	began := time.Now()
	for range 20 {
		if err := randoms(c); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("20 commands took %s: the silent member still gets work", took)
	}
}

func TestBlackHoleAlone(t *testing.T) {
	t.Parallel()
	d := device(t, hsm.Config{})
	c := start(t, hsmclient.Config{Members: []member.Spec{spec("a", d)}})
	setFaults(t, d, hsm.Faults{BlackHole: true})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := c.Random(ctx, 8)
	if took := time.Since(began); command.ClassOf(err) != command.MemberFault || !errors.Is(err, context.DeadlineExceeded) || took > 2*time.Second {
		t.Errorf("after %s: %v", took, err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	go cancel()
	if _, err := c.Random(ctx, 8); command.ClassOf(err) != command.Unavailable || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A silent member is found without any traffic of callers.
func TestSilenceIsNoticed(t *testing.T) {
	t.Parallel()
	d := device(t, hsm.Config{})
	reg := prometheus.NewRegistry()
	c := start(t, hsmclient.Config{Members: []member.Spec{spec("a", d)}, Probing: hsmclient.Probing{Every: 30 * time.Millisecond, Timeout: 50 * time.Millisecond}, Timeout: 50 * time.Millisecond, Registerer: reg})
	setFaults(t, d, hsm.Faults{BlackHole: true})
	eventually(t, "the channel is given up", func() bool { return value(t, reg, "keyward_hsm_member_channels") == 0 })
	setFaults(t, d, hsm.Faults{})
	eventually(t, "the member is back", func() bool { return randoms(c) == nil })
}

// value is the sum of a metric's series.
func value(t *testing.T, reg *prometheus.Registry, name string) (sum float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

// A slow member answers late: the answer of a command that was given up is not taken for another's.
func TestLateAnswersAreNotMixedUp(t *testing.T) {
	t.Parallel()
	d := device(t, hsm.Config{})
	c := start(t, hsmclient.Config{Members: []member.Spec{spec("a", d)}})
	key := wrapOn(d)(t, keys.MACKey, keys.DES, secret.New([]byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF}))
	mac := func(ctx context.Context, text string) ([]byte, error) {
		return c.MAC(ctx, command.MACInput{Key: key, Algorithm: command.MACAlg1, Data: []byte(text)})
	}
	right, err := mac(t.Context(), "second")
	if err != nil {
		t.Fatal(err)
	}
	setFaults(t, d, hsm.Faults{Hold: []string{"M6"}})
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := mac(short, "first"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("held command: %v", err)
	}
	setFaults(t, d, hsm.Faults{}) // the first answer leaves now
	for range 20 {
		if got, err := mac(t.Context(), "second"); err != nil || !bytes.Equal(got, right) {
			t.Fatalf("the answer of another command came: %v", err)
		}
	}
}

// Answers with a wrong header or a broken body: never a wrong result; the channel is closed and commands go on.
func TestDamagedAnswers(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]hsm.Faults{
		"wrong header": {WrongHeaderEvery: 9}, "garbage": {GarbleEvery: 9}, "lost": {DropEvery: 9},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := device(t, hsm.Config{}), device(t, hsm.Config{})
			var log lockedBuffer
			c := start(t, hsmclient.Config{Members: []member.Spec{spec("a", a), spec("b", b)}, Timeout: 150 * time.Millisecond,
				Log: slog.New(slog.NewTextHandler(&log, nil))})
			key := wrapOn(a)(t, keys.MACKey, keys.DES, secret.New([]byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF}))
			in := command.MACInput{Key: key, Algorithm: command.MACAlg1, Data: []byte("text")}
			right, err := c.MAC(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "both members work", func() bool {
				return randoms(c) == nil && count(a, "N0") > 0 && count(b, "N0") > 0
			})
			setFaults(t, a, f)
			failed := 0
			for range 120 {
				got, err := c.MAC(t.Context(), in)
				if err != nil {
					failed++
				} else if !bytes.Equal(got, right) {
					t.Fatal("a damaged answer was taken")
				}
			}
			if failed > 0 {
				t.Errorf("%d of 120 commands failed although one member was healthy", failed)
			}
			if strings.Contains(log.String(), key.Cryptogram) {
				t.Error("the log shows a cryptogram")
			}
		})
	}
}

// lockedBuffer is a log that many goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A thousand callers with different commands at once, answers out of order: each gets its own.
func TestThousandMixedCommands(t *testing.T) {
	t.Parallel()
	a, b := device(t, hsm.Config{Faults: hsm.Faults{Shuffle: true}}), device(t, hsm.Config{Faults: hsm.Faults{Shuffle: true}})
	c := start(t, hsmclient.Config{Members: []member.Spec{spec("a", a), spec("b", b)}, Timeout: patience})
	des := wrapOn(a)(t, keys.MACKey, keys.DES, secret.New([]byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF}))
	const kinds = 50
	right := make([][]byte, kinds)
	for i := range right {
		var err error
		if right[i], err = c.MAC(t.Context(), macOf(des, i)); err != nil {
			t.Fatal(err)
		}
	}
	var wrong atomic.Int32
	var callers sync.WaitGroup
	for i := range 1000 {
		callers.Go(func() {
			kind := i % kinds
			var ok bool
			var err error
			switch i % 4 {
			case 0:
				var got []byte
				got, err = c.MAC(t.Context(), macOf(des, kind))
				ok = bytes.Equal(got, right[kind])
			case 1:
				ok, err = c.VerifyMAC(t.Context(), macOf(des, kind), right[kind][:4])
			case 2:
				ok, err = c.VerifyMAC(t.Context(), macOf(des, kind), right[(kind+1)%kinds])
				ok = !ok
			case 3:
				var got []byte
				got, err = c.Random(t.Context(), 1+i%200)
				ok = len(got) == 1+i%200
			}
			if err != nil || !ok {
				wrong.Add(1)
				t.Errorf("command %d: %v, %v", i, ok, err)
			}
		})
	}
	callers.Wait()
	if wrong.Load() > 0 {
		t.Fatalf("%d wrong answers", wrong.Load())
	}
}

func macOf(key keys.Wrapped, i int) command.MACInput {
	return command.MACInput{Key: key, Algorithm: command.MACAlg1, Data: fmt.Appendf(nil, "message %d", i)}
}
