package reverse_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/internal/ledger"
	"github.com/keyward/keyward/internal/pgtest"
	"github.com/keyward/keyward/internal/posp/host"
	"github.com/keyward/keyward/internal/posp/journal"
	"github.com/keyward/keyward/internal/posp/reverse"
	"github.com/keyward/keyward/internal/posp/seal"
	"github.com/keyward/keyward/internal/spool"
	"github.com/keyward/keyward/internal/spool/spooltest"
	"github.com/keyward/keyward/internal/txn"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/migrations"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const (
	card     = "6222020000000000018"
	patience = 20 * time.Second // reached only when something is broken
)

// bank is a host that answers reversals from a list and remembers what it was asked.
type bank struct {
	mu      sync.Mutex
	answers []host.Result // the last one is repeated
	asked   []host.Reversal
	told    []host.Request
}

func (b *bank) Name() string    { return "bank" }
func (b *bank) Zone() host.Zone { return host.Zone{} }
func (b *bank) Ready() error    { return nil }

func (b *bank) Exchange(_ context.Context, req host.Request) host.Result {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.told = append(b.told, req)
	return b.answer()
}

func (b *bank) Reverse(_ context.Context, rev host.Reversal) host.Result {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = append(b.asked, rev)
	return b.answer()
}

// answer takes the next of the list. The caller holds the lock.
func (b *bank) answer() host.Result {
	r := b.answers[0]
	if len(b.answers) > 1 {
		b.answers = b.answers[1:]
	}
	return r
}

func (b *bank) seen() []host.Reversal {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]host.Reversal(nil), b.asked...)
}

var (
	silent = host.Result{Outcome: txn.Unknown, Err: errors.New("silence")}
	absent = host.Result{Outcome: txn.NotSent, Err: errors.New("not connected")}
	done   = host.Result{Outcome: txn.Answered, Reply: txn.Reply{Code: "00"}}
)

// hsm stands in for the device that the sealing keys come from.
type hsm struct{}

func (hsm) MAC(_ context.Context, in command.MACInput) ([]byte, error) {
	sum := sha256.Sum256(in.Data)
	return sum[:8], nil
}

type rig struct {
	t      *testing.T
	db     *pgtest.DB
	fs     *spooltest.FaultFS
	sealer *seal.Sealer
	log    bytes.Buffer // written by the engine alone, read after its end
}

func newRig(t *testing.T) *rig {
	t.Helper()
	s, err := seal.New(t.Context(), hsm{}, keys.Wrapped{Usage: keys.Seal, Cryptogram: "U0"})
	if err != nil {
		t.Fatal(err)
	}
	return &rig{t: t, db: pgtest.New(t), fs: spooltest.New(1), sealer: s}
}

// life starts engine and journal as posp does. end stops them.
func (r *rig) life(hosts map[string]host.Host, reg prometheus.Registerer) (j *journal.Journal, e *reverse.Engine, end func()) {
	r.t.Helper()
	var mu sync.Mutex
	log := slog.New(slog.NewTextHandler(writer(func(p []byte) (int, error) { mu.Lock(); defer mu.Unlock(); return r.log.Write(p) }), nil))
	e, err := reverse.New(func(name string) (host.Host, bool) { h, ok := hosts[name]; return h, ok }, log, reg, time.Now)
	if err != nil {
		r.t.Fatal(err)
	}
	j, err = journal.New(journal.Config{
		Instance: "posp-1", Ack: journal.AckDatabase, Store: ledger.New(r.db.Pool(r.t, migrations.RolePOSP)), Location: time.UTC, Owed: e.Add,
		Log: log, Now: time.Now, Spool: spool.Config{Dir: "spool", FS: r.fs, BootID: r.fs.BootID()},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	if err := j.Start(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	e.Start(r.t.Context(), r.sealer)
	var once sync.Once
	end = func() {
		once.Do(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := errors.Join(e.Stop(ctx), j.Stop(ctx)); err != nil {
				r.t.Error(err)
			}
		})
	}
	r.t.Cleanup(end)
	return j, e, end
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// doubt makes a transaction whose outcome is unknown.
func (r *rig) doubt(j *journal.Journal, hostName, trace string) *journal.Entry {
	r.t.Helper()
	k := txn.Key{Terminal: "10000001", Merchant: "104110000000001", Batch: "000001", Trace: trace, MTI: "0200", Type: "22"}
	e, _ := j.Begin(k, [32]byte{1}, ledger.Record{Kind: txn.Purchase, ProcCode: "000000", Amount: 1234, Currency: "156"}, time.Now())
	sealed, err := reverse.Material{PAN: card, Expiry: "3012", EntryMode: "021", Condition: "00"}.Seal(r.sealer, e.ID())
	if err != nil {
		r.t.Fatal(err)
	}
	if bytes.Contains(sealed, []byte(card)) {
		r.t.Fatal("sealed material shows the card number")
	}
	if err := e.Sending(r.t.Context(), hostName, sealed); err != nil {
		r.t.Fatal(err)
	}
	if err := e.Conclude(r.t.Context(), txn.Unknown, txn.Reply{Code: "98"}, "98"); err != nil {
		r.t.Fatal(err)
	}
	return e
}

func (r *rig) awaitUndone(e *journal.Entry) {
	r.t.Helper()
	select {
	case <-e.Undone():
	case <-time.After(patience):
		r.t.Fatal("the reversal was not done")
	}
}

// TestUntilAnswered: sent until the host answers, with all facts of the original, first try and repeats told apart.
func TestUntilAnswered(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := &bank{answers: []host.Result{silent, absent, done}}
	j, engine, end := r.life(map[string]host.Host{"bank": b}, prometheus.NewRegistry())
	e := r.doubt(j, "bank", "000001")
	r.awaitUndone(e)
	end()
	asked := b.seen()
	trace, rrn := e.Reference()
	if len(asked) != 3 || engine.Owed() != 0 {
		t.Fatalf("asked %d times, %d owed", len(asked), engine.Owed())
	}
	for i, got := range asked {
		if got.PAN.Reveal() != card || got.Trace != trace || got.RRN != rrn || !got.SentAt.Equal(e.Began()) || got.Amount != 1234 || got.ProcCode != "000000" ||
			got.Terminal != "10000001" || got.Merchant != "104110000000001" || got.Expiry != "3012" || got.EntryMode != "021" || got.Condition != "00" ||
			got.Currency != "156" || got.Cause != "98" || got.Try != i+1 {
			t.Errorf("try %d: %+v", i+1, got)
		}
	}
	if state, _, _ := e.Standing(); state != txn.Reversed || e.Sealed() != nil {
		t.Errorf("state %s", state)
	}
	if log := r.log.String(); strings.Contains(log, card) || !strings.Contains(log, "reversal answered") {
		t.Errorf("log:\n%s", log)
	}
}

// TestNextLifeGoesOn: what one life owes the next one sends, and counts the tries on.
func TestNextLifeGoesOn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := &bank{answers: []host.Result{silent}}
	j, _, end := r.life(map[string]host.Host{"bank": b}, nil)
	began := r.doubt(j, "bank", "000001")
	for tick := time.NewTicker(time.Millisecond); len(b.seen()) < 2; <-tick.C { // the engine has no signal for a try
		if t.Context().Err() != nil {
			return
		}
	}
	end()
	first := len(b.seen())
	b.mu.Lock()
	b.answers = []host.Result{done}
	b.mu.Unlock()
	j, _, end = r.life(map[string]host.Host{"bank": b}, nil)
	e, err := j.Lookup(t.Context(), began.Original().Key)
	if err != nil {
		t.Fatal(err)
	}
	r.awaitUndone(e)
	end()
	asked := b.seen()
	last := asked[len(asked)-1]
	if len(asked) != first+1 || last.Try < 2 || last.PAN.Reveal() != card || !last.SentAt.Equal(began.Began()) || last.Trace != asked[0].Trace {
		t.Errorf("%d tries in the first life, then %+v", first, asked[first:])
	}
}

// TestUnknownHostWaits: a host that is not configured any more holds up nobody else.
func TestUnknownHostWaits(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := &bank{answers: []host.Result{done}}
	j, engine, end := r.life(map[string]host.Host{"bank": b}, nil)
	lost := r.doubt(j, "another", "000001")
	r.awaitUndone(r.doubt(j, "bank", "000002"))
	end()
	if state, _, _ := lost.Standing(); state != txn.InDoubt || len(b.seen()) != 1 {
		t.Errorf("state %s, asked %d times, %d owed", state, len(b.seen()), engine.Owed())
	}
}

func TestManyOwed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := &bank{answers: []host.Result{done}}
	j, _, end := r.life(map[string]host.Host{"bank": b}, nil)
	var list []*journal.Entry
	for i := range 40 {
		list = append(list, r.doubt(j, "bank", string(rune('a'+i))))
	}
	for _, e := range list {
		r.awaitUndone(e)
	}
	end()
	if len(b.seen()) != len(list) {
		t.Errorf("asked %d times for %d reversals", len(b.seen()), len(list))
	}
}

func TestStopBeforeStart(t *testing.T) {
	t.Parallel()
	e, err := reverse.New(nil, slog.New(slog.DiscardHandler), nil, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Stop(t.Context()); err != nil || e.Owed() != 0 {
		t.Error(err)
	}
	reg := prometheus.NewRegistry()
	for i := range 2 {
		if _, err := reverse.New(nil, slog.New(slog.DiscardHandler), reg, time.Now); (err != nil) != (i == 1) {
			t.Errorf("metrics registered %d times: %v", i+1, err)
		}
	}
}
