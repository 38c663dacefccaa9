package hsmclient_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/hsmclient/racal"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
	"github.com/keyward/keyward/sim/hsm"
)

// storing is the racal driver with an operation that must never be sent twice: StoreKey sends its label with the harmless B2, which every
// device echoes (facts/hsm.md §1.2), and counts how often a label may have gone out.
type storing struct {
	*racal.Driver
	sent *sentLabels
}

// sentLabels counts by label.
type sentLabels struct {
	mu    sync.Mutex
	count map[string]int
}

func (s *sentLabels) add(label string) {
	s.mu.Lock()
	s.count[label]++
	s.mu.Unlock()
}

// make is the driver.Maker.
func (s *sentLabels) make(map[string]string) (driver.Driver, error) {
	made, err := racal.Make(nil)
	if err != nil {
		return nil, err
	}
	d, ok := made.(*racal.Driver)
	if !ok {
		return nil, fmt.Errorf("the racal driver is a %T", made)
	}
	return storing{d, s}, nil
}

func (s storing) Capabilities() command.Capability {
	return s.Driver.Capabilities() | command.CanStoreKey
}

func (s storing) StoreKey(ctx context.Context, on driver.Conversation, req command.NewKey) (keys.Wrapped, error) {
	answer, err := on.Exchange(ctx, fmt.Appendf(nil, "B2%04X%s", len(req.Label), req.Label))
	if err == nil || !driver.NotSent(err) {
		s.sent.add(req.Label)
	}
	if err != nil {
		return keys.Wrapped{}, err
	}
	code, text := string(answer[:min(4, len(answer))]), string(answer[min(4, len(answer)):])
	if code != "B300" || strings.ContainsFunc(text, func(r rune) bool { return r > 0x7E }) { // another label is not for the driver to find out
		return keys.Wrapped{}, &command.Error{Class: command.MemberFault, Command: "B2", Err: driver.ErrMalformed}
	}
	return keys.Wrapped{Usage: req.Usage, Algorithm: req.Algorithm, Domain: domain, Cryptogram: text}, nil
}

// load is steady traffic whose answers are known beforehand.
type load struct {
	c     *hsmclient.Cluster
	key   keys.Wrapped
	kcv   keys.KCV
	macs  [][]byte
	sent  *sentLabels
	label atomic.Uint64

	// noDeadlines: who gives up goes away; nobody has a deadline that cannot be kept, which would be a failed request.
	noDeadlines bool

	// calmSince is since when nothing is wrong with any member and nothing has after-effects, in nanoseconds; 0: something is. What an operator
	// orders in calm must not cost a request its member.
	calmSince atomic.Int64

	cancel  context.CancelFunc
	unwatch func()
	workers sync.WaitGroup
	rounds  []atomic.Uint64 // of each worker
	done    [ops]atomic.Uint64
	unknown atomic.Uint64

	mu     sync.Mutex
	faults []string // what went wrong, the first few
}

// What a worker does in a round.
const (
	doMAC = iota
	doVerify
	doVerifyWrong
	doCheck
	doStore
	doImpatient // gives up after a random time
	ops
)

const (
	// loadDeadline is far longer than all that a request may have to go through.
	loadDeadline = 30 * time.Second
	messages     = 32
	maxNoted     = 10
)

// newLoad computes the right answers on a healthy device of its own with the same LMK.
func newLoad(t *testing.T, c *hsmclient.Cluster, sent *sentLabels) *load {
	t.Helper()
	d := device(t, hsm.Config{})
	calm := start(t, hsmclient.Config{Members: []member.Spec{spec("oracle", d)}})
	l := &load{c: c, sent: sent, key: wrapOn(d)(t, keys.MACKey, keys.DES, secret.New([]byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF}))}
	var err error
	if l.kcv, err = calm.CheckValue(t.Context(), l.key); err != nil {
		t.Fatal(err)
	}
	for i := range messages {
		mac, err := calm.MAC(t.Context(), macOf(l.key, i))
		if err != nil {
			t.Fatal(err)
		}
		l.macs = append(l.macs, mac)
	}
	return l
}

// run begins the traffic. pause is taken after each request, so that the rest of the test gets a share of the processor.
func (l *load) run(seed uint64, workers int, pause time.Duration) {
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	l.unwatch = l.c.Observe(l.watch)
	l.rounds = make([]atomic.Uint64, workers)
	for i := range workers {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		l.workers.Go(func() {
			for ctx.Err() == nil {
				l.one(ctx, random)
				l.rounds[i].Add(1)
				if pause > 0 {
					time.Sleep(pause) // pace, not synchronisation
				}
			}
		})
	}
}

// stop ends the traffic; requests under way are finished.
func (l *load) stop() {
	l.cancel()
	l.workers.Wait()
	l.unwatch()
}

// watch hears of every request.
func (l *load) watch(o member.Outcome) {
	since := l.calmSince.Load()
	if since > 0 && !o.Drill && o.Ended.Add(-o.Took).UnixNano() > since && (o.Repeated || o.Result == "unknown") {
		l.fault("a request on %s was disturbed by an operation: %+v", o.First, o)
	}
}

// calm says whether nothing is wrong with any member.
func (l *load) calm(now bool) {
	switch {
	case !now:
		l.calmSince.Store(0)
	case l.calmSince.Load() == 0:
		l.calmSince.Store(time.Now().UnixNano())
	}
}

// one makes a request and checks its answer.
func (l *load) one(ctx context.Context, random *rand.Rand) {
	what, i := random.IntN(ops), random.IntN(messages)
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadDeadline)
	defer cancel()
	began := time.Now()
	var err error
	ok := true
	switch what {
	case doMAC:
		var mac []byte
		mac, err = l.c.MAC(bound, macOf(l.key, i))
		ok = bytes.Equal(mac, l.macs[i])
	case doVerify:
		ok, err = l.c.VerifyMAC(bound, macOf(l.key, i), l.macs[i][:4])
	case doVerifyWrong:
		var same bool
		same, err = l.c.VerifyMAC(bound, macOf(l.key, i), l.macs[(i+1)%messages][:4])
		ok = !same
	case doCheck:
		var kcv keys.KCV
		kcv, err = l.c.CheckValue(bound, l.key)
		ok = kcv == l.kcv
	case doStore:
		l.store(bound, began)
		return
	case doImpatient:
		short, giveUp := context.WithCancel(bound)
		defer giveUp()
		if after := time.Duration(random.IntN(3000)) * time.Microsecond; i%2 == 0 || l.noDeadlines {
			defer time.AfterFunc(after, giveUp).Stop()
		} else {
			var late context.CancelFunc
			short, late = context.WithTimeout(member.ForDrill(bound), after) // marked: one without time is repeated, and nothing is wrong
			defer late()
		}
		n := 1 + random.IntN(64)
		got, err := l.c.Random(short, n)
		if err == nil && len(got) != n {
			l.fault("Random gave %d bytes instead of %d", len(got), n)
		}
		l.done[what].Add(1)
		return
	}
	switch {
	case err != nil:
		l.fault("request %d failed after %s: %v", what, time.Since(began), err)
	case !ok:
		l.fault("request %d of message %d got the answer of another one", what, i)
	default:
		l.done[what].Add(1)
	}
}

// store makes a request that is never repeated: it may end in doubt, but then it says so.
func (l *load) store(ctx context.Context, began time.Time) {
	label := fmt.Sprintf("label %d", l.label.Add(1))
	key, err := l.c.StoreKey(ctx, command.NewKey{Label: label, Usage: keys.MACKey, Algorithm: keys.DES})
	l.sent.mu.Lock()
	sent := l.sent.count[label]
	l.sent.mu.Unlock()
	switch class := command.ClassOf(err); {
	case sent > 1:
		l.fault("%s was sent %d times", label, sent)
	case err == nil && (key.Cryptogram != label || sent != 1):
		l.fault("%s got the answer %q, sent %d times", label, key.Cryptogram, sent)
	case err == nil:
		l.done[doStore].Add(1)
	case class == command.Unknown && sent == 1:
		l.unknown.Add(1)
	default:
		var e *command.Error
		l.fault("%s, sent %d times, failed after %s as %v: %v", label, sent, time.Since(began), errors.As(err, &e), err)
	}
}

func (l *load) fault(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.faults) < maxNoted {
		l.faults = append(l.faults, fmt.Sprintf("%s ", time.Now().Format("05.000"))+fmt.Sprintf(format, args...))
	}
}

func (l *load) broken() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.faults...)
}

// barrier waits until every request that is under way now has ended.
func (l *load) barrier(t *testing.T) {
	t.Helper()
	until := make([]uint64, len(l.rounds))
	for i := range l.rounds {
		until[i] = l.rounds[i].Load() + 1
	}
	eventually(t, "all requests of before have ended", func() bool {
		for i := range l.rounds {
			if l.rounds[i].Load() < until[i] {
				return false
			}
		}
		return true
	})
}
