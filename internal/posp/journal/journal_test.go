package journal_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyward/keyward/internal/ledger"
	"github.com/keyward/keyward/internal/pgtest"
	"github.com/keyward/keyward/internal/posp/journal"
	"github.com/keyward/keyward/internal/postgres"
	"github.com/keyward/keyward/internal/spool"
	"github.com/keyward/keyward/internal/spool/spooltest"
	"github.com/keyward/keyward/internal/txn"
	"github.com/keyward/keyward/migrations"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const patience = 20 * time.Second // reached only when something is broken

var (
	content = [32]byte{1}
	other   = [32]byte{2}
	yes     = txn.Reply{Code: "00", AuthCode: "123456", Balance: "0002156C000100000000"}
	no      = txn.Reply{Code: "51"}
)

func key(trace string) txn.Key {
	return txn.Key{Terminal: "10000001", Merchant: "104110000000001", Batch: "000001", Trace: trace, MTI: "0200", Type: "22"}
}

var purchase = ledger.Record{Kind: txn.Purchase, ProcCode: "000000", Amount: 1234, Currency: "156", PANMasked: "622202*********0018"}

// bench is one instance's disk and database, over several lives.
type bench struct {
	t    *testing.T
	db   *pgtest.DB
	fs   *spooltest.FaultFS
	name string
	ack  journal.AckMode

	mu   sync.Mutex
	owed []*journal.Entry
}

func newBench(t *testing.T) *bench {
	t.Helper()
	return &bench{t: t, db: pgtest.New(t), fs: spooltest.New(1), name: "posp-1", ack: journal.AckDatabase}
}

// start begins a life; the journal is stopped at the end of the test.
func (b *bench) start() *journal.Journal {
	b.t.Helper()
	b.mu.Lock()
	b.owed = nil
	b.mu.Unlock()
	j, err := journal.New(journal.Config{
		Instance: b.name, Ack: b.ack, Store: ledger.New(b.pool()), Location: time.UTC, Log: slog.New(slog.DiscardHandler), Now: time.Now,
		Spool: spool.Config{Dir: "spool", FS: b.fs, BootID: b.fs.BootID()},
		Owed: func(e *journal.Entry) {
			e.Owes() // as the reversal engine does, from within the call
			b.mu.Lock()
			defer b.mu.Unlock()
			b.owed = append(b.owed, e)
		},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	if err := j.Start(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = j.Stop(ctx) // a life that was killed has lost its disk
	})
	return j
}

func (b *bench) pool() *pgxpool.Pool { return b.db.Pool(b.t, migrations.RolePOSP) }

// kill ends the process but not the machine; crash ends both.
func (b *bench) kill()                     { b.fs = b.fs.Kill() }
func (b *bench) crash(mode spooltest.Mode) { b.fs = b.fs.Crash(mode) }

func (b *bench) debts() []*journal.Entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]*journal.Entry(nil), b.owed...)
}

// lock keeps every journal from writing to the database until the returned function is called.
func (b *bench) lock() (unlock func()) {
	b.t.Helper()
	tx, err := b.db.Pool(b.t, postgres.Superuser).Begin(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := tx.Exec(b.t.Context(), "LOCK TABLE transactions IN ACCESS EXCLUSIVE MODE"); err != nil {
		b.t.Fatal(err)
	}
	var once sync.Once
	unlock = func() {
		once.Do(func() {
			if err := tx.Rollback(context.Background()); err != nil {
				b.t.Error(err)
			}
		})
	}
	b.t.Cleanup(unlock)
	return unlock
}

func fresh(t *testing.T, j *journal.Journal, trace string) *journal.Entry {
	t.Helper()
	e, v := j.Begin(key(trace), content, purchase, time.Now())
	if v != journal.Fresh {
		t.Fatalf("verdict %v", v)
	}
	return e
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func send(t *testing.T, j *journal.Journal, trace string) *journal.Entry {
	t.Helper()
	e := fresh(t, j, trace)
	must(t, e.Sending(t.Context(), "bank", []byte("sealed")))
	return e
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestMoves(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	j := b.start()
	ctx := t.Context()
	balance := purchase
	balance.Kind = txn.Balance
	tests := []struct {
		name  string
		do    func(trace string) *journal.Entry
		state txn.State
		owes  bool
	}{
		{"approved and answered", func(tr string) *journal.Entry {
			e := send(t, j, tr)
			must(t, e.Conclude(ctx, txn.Answered, yes, ""))
			must(t, e.Answered())
			must(t, e.Answered())
			return e
		}, txn.Approved, false},
		{"declined", func(tr string) *journal.Entry {
			e := send(t, j, tr)
			must(t, e.Conclude(ctx, txn.Answered, no, ""))
			return e
		}, txn.Declined, false},
		{"not sent after sending", func(tr string) *journal.Entry {
			e := send(t, j, tr)
			must(t, e.Conclude(ctx, txn.NotSent, txn.Reply{Code: "91"}, ""))
			return e
		}, txn.Failed, false},
		{"failed before sending", func(tr string) *journal.Entry {
			e := fresh(t, j, tr)
			must(t, e.Conclude(ctx, txn.NotSent, txn.Reply{Code: "91"}, ""))
			return e
		}, txn.Failed, false},
		{"in doubt", func(tr string) *journal.Entry {
			e := send(t, j, tr)
			must(t, e.Conclude(ctx, txn.Unknown, txn.Reply{Code: "98"}, "98"))
			return e
		}, txn.InDoubt, true},
		{"balance approved", func(tr string) *journal.Entry {
			e, _ := j.Begin(key(tr), content, balance, time.Now())
			must(t, e.Conclude(ctx, txn.Answered, yes, ""))
			if state, err := e.TakeBack(ctx, "96"); err != nil || state != txn.Approved {
				t.Errorf("a balance was taken back: %s, %v", state, err)
			}
			must(t, e.Answered())
			return e
		}, txn.Approved, false},
		{"balance in doubt", func(tr string) *journal.Entry {
			e, _ := j.Begin(key(tr), content, balance, time.Now())
			must(t, e.Conclude(ctx, txn.Unknown, txn.Reply{Code: "98"}, "98"))
			return e
		}, txn.Failed, false},
		{"taken back, tried, reversed", func(tr string) *journal.Entry {
			e := send(t, j, tr)
			must(t, e.Conclude(ctx, txn.Answered, yes, ""))
			for range 2 {
				if state, err := e.TakeBack(ctx, "96"); err != nil || state != txn.Reversing {
					t.Errorf("taken back: %s, %v", state, err)
				}
			}
			if e.Answered() == nil {
				t.Error("an approval that is taken back was answered")
			}
			must(t, e.Tried(time.Now(), "no answer"))
			if closed(e.Undone()) {
				t.Error("undone too early")
			}
			must(t, e.Reversed(ctx, txn.Reply{Code: "00"}))
			must(t, e.Reversed(ctx, txn.Reply{Code: "00"}))
			if !closed(e.Undone()) || e.Sealed() != nil {
				t.Error("reversed, but not undone or still sealed")
			}
			return e
		}, txn.Reversed, true},
	}
	for i, test := range tests {
		before := len(b.debts())
		trace := string(rune('1'+i)) + "00000"
		e := test.do(trace)
		state, reply, _ := e.Standing()
		if state != test.state || !closed(e.Settled()) || reply == nil {
			t.Errorf("%s: state %s, settled %v", test.name, state, closed(e.Settled()))
		}
		if got := len(b.debts()) - before; (got == 1) != test.owes || got > 1 {
			t.Errorf("%s: %d reversals owed", test.name, got)
		}
		// Moves that no flow makes are refused.
		if e.Conclude(ctx, txn.Answered, yes, "") == nil || e.Sending(ctx, "bank", nil) == nil || e.Tried(time.Now(), "") == nil && !state.NeedsReversal() {
			t.Errorf("%s: an illegal move was accepted", test.name)
		}
	}
	must(t, j.Stop(ctx))
	// Another life sees the same.
	j = b.start()
	for i, test := range tests {
		e, err := j.Lookup(ctx, key(string(rune('1'+i))+"00000"))
		if err != nil || e == nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		state, reply, _ := e.Standing()
		if state != test.state || reply == nil || reply.Balance != "" {
			t.Errorf("%s after a restart: state %s, reply %v", test.name, state, reply)
		}
	}
	if got := len(b.debts()); got != 1 {
		t.Errorf("%d reversals owed after the restart, want the one in doubt", got)
	}
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	j := b.start()
	ctx := t.Context()
	e := send(t, j, "000001")
	must(t, e.Conclude(ctx, txn.Answered, yes, ""))
	tomb, err := j.Tombstone(ctx, key("000002"), purchase, "98", time.Now(), nil)
	must(t, err)
	if state, _, _ := tomb.Standing(); state != txn.Reversed || !closed(tomb.Settled()) || !closed(tomb.Undone()) {
		t.Errorf("tombstone: %s", state)
	}
	if again, err := j.Tombstone(ctx, key("000001"), purchase, "98", time.Now(), nil); err != nil || again != e {
		t.Errorf("a tombstone for a known transaction: %v", err)
	}
	check := func(j *journal.Journal) {
		t.Helper()
		for _, test := range []struct {
			trace   string
			content [32]byte
			want    journal.Verdict
		}{{"000001", content, journal.Repeat}, {"000001", other, journal.Different}, {"000002", content, journal.Withdrawn}} {
			if _, got := j.Begin(key(test.trace), test.content, purchase, time.Now()); got != test.want {
				t.Errorf("trace %s: verdict %v, want %v", test.trace, got, test.want)
			}
		}
	}
	check(j)
	if found, err := j.Lookup(ctx, key("000009")); found != nil || err != nil {
		t.Errorf("lookup of nothing: %v, %v", found, err)
	}
	// A day later the same key is another transaction.
	if _, got := j.Begin(key("000001"), content, purchase, time.Now().Add(26*time.Hour)); got != journal.Fresh {
		t.Errorf("a day later: verdict %v", got)
	}
	must(t, j.Stop(ctx))
	check(b.start())
}

// TestOtherInstance: what another instance took up is found through the database.
func TestOtherInstance(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	j1 := b.start()
	b2 := &bench{t: t, db: b.db, fs: spooltest.New(2), name: "posp-2", ack: journal.AckDatabase}
	j2 := b2.start()
	ctx := t.Context()

	first := send(t, j1, "000001")
	second := fresh(t, j2, "000001")
	err := second.Sending(ctx, "bank", []byte("sealed"))
	var taken *journal.TakenElsewhereError
	if !errors.As(err, &taken) || taken.Owner != first.ID() || !journal.IsTakenElsewhere(err) {
		t.Fatalf("sending a request of another instance: %v", err)
	}
	found, err := j2.Elsewhere(ctx, key("000001"))
	must(t, err)
	if found.ID() != first.ID() || closed(found.Settled()) || found.Compare(content) != journal.Repeat || found.Compare(other) != journal.Different {
		t.Error("the transaction of the other instance was not found as it is")
	}
	must(t, first.Conclude(ctx, txn.Answered, yes, ""))
	found, err = j2.Lookup(ctx, key("000001")) // its outcome is seen as soon as it is there
	must(t, err)
	if state, _, _ := found.Standing(); state != txn.Approved || !closed(found.Settled()) {
		t.Errorf("outcome at the other instance: %s", state)
	}

	// A tombstone for a transaction that another instance took up is that transaction, not a tombstone.
	third := send(t, j1, "000002")
	must(t, third.Conclude(ctx, txn.Answered, yes, ""))
	e, err := j2.Tombstone(ctx, key("000002"), purchase, "98", time.Now(), nil)
	must(t, err)
	if e.ID() != third.ID() {
		t.Error("a tombstone stands beside a transaction of another instance")
	}
}

// TestLives: what a killed or crashed instance left open is brought to an end by its next life.
func TestLives(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		do    func(t *testing.T, e *journal.Entry)
		end   func(b *bench)
		state txn.State
		owes  bool
		told  bool
	}{
		{"killed while sending", func(*testing.T, *journal.Entry) {}, (*bench).kill, txn.InDoubt, true, false},
		{"crashed while sending", func(*testing.T, *journal.Entry) {}, drop, txn.InDoubt, true, false},
		{"killed approved", approve, (*bench).kill, txn.Reversing, true, false},
		{"crashed approved", approve, drop, txn.Approved, false, true}, // its answer may have been handed over
		{"killed answered", answer, (*bench).kill, txn.Approved, false, true},
		{"killed declined", func(t *testing.T, e *journal.Entry) { must(t, e.Conclude(t.Context(), txn.Answered, no, "")) }, (*bench).kill, txn.Declined, false, false},
		{"killed in doubt", func(t *testing.T, e *journal.Entry) { must(t, e.Conclude(t.Context(), txn.Unknown, txn.Reply{}, "98")) }, (*bench).kill, txn.InDoubt, true, false},
		{"killed while taking back", func(t *testing.T, e *journal.Entry) {
			approve(t, e)
			_, err := e.TakeBack(t.Context(), "96")
			must(t, err)
			must(t, e.Tried(time.Now(), "no answer"))
		}, (*bench).kill, txn.Reversing, true, false},
		{"killed reversed", func(t *testing.T, e *journal.Entry) {
			approve(t, e)
			_, err := e.TakeBack(t.Context(), "96")
			must(t, err)
			must(t, e.Reversed(t.Context(), txn.Reply{Code: "00"}))
		}, (*bench).kill, txn.Reversed, false, false},
	}
	for _, test := range tests {
		for _, ack := range []journal.AckMode{journal.AckDatabase, journal.AckLocal} {
			t.Run(test.name+" "+string(ack), func(t *testing.T) {
				t.Parallel()
				b := newBench(t)
				b.ack = ack
				e := send(t, b.start(), "000001")
				id := e.ID()
				test.do(t, e)
				test.end(b)
				for life := 2; life <= 3; life++ { // the third finds all done
					j := b.start()
					e, err := j.Lookup(t.Context(), key("000001"))
					must(t, err)
					state, _, answered := e.Standing()
					debts := len(b.debts())
					if e.ID() != id || state != test.state || answered != test.told || (debts == 1) != test.owes || debts > 1 {
						t.Errorf("life %d: %s, answered %v, %d owed", life, state, answered, debts)
					}
					if test.owes && string(e.Sealed()) != "sealed" {
						t.Errorf("life %d: nothing to reverse with", life)
					}
					must(t, j.Stop(t.Context()))
				}
			})
		}
	}
}

func drop(b *bench) { b.crash(spooltest.Drop) }

func approve(t *testing.T, e *journal.Entry) {
	t.Helper()
	must(t, e.Conclude(t.Context(), txn.Answered, yes, ""))
}

func answer(t *testing.T, e *journal.Entry) {
	t.Helper()
	approve(t, e)
	must(t, e.Answered())
}

// TestDatabaseAway: the spool serves, and the database catches up afterwards.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	j := b.start()
	unlock := b.lock()
	began := time.Now()
	answer(t, send(t, j, "000001"))
	if took := time.Since(began); took > patience {
		t.Errorf("took %s without the database", took)
	}
	var n int
	unlock()
	must(t, j.Stop(t.Context()))
	must(t, b.pool().QueryRow(t.Context(), "SELECT count(*) FROM transactions").Scan(&n))
	if n != 3 {
		t.Errorf("%d records in the database, want 3", n)
	}
}

// TestCrashWithoutDatabase: what the spool alone holds is shipped by the next life, and brought to an end.
func TestCrashWithoutDatabase(t *testing.T) {
	t.Parallel()
	for _, mode := range spooltest.Modes {
		b := newBench(t)
		j := b.start()
		unlock := b.lock()
		e := send(t, j, "000001") // by the fsync of the spool
		id := e.ID()
		b.crash(mode)
		unlock()
		next := b.start()
		found, err := next.Lookup(t.Context(), key("000001"))
		must(t, err)
		if found == nil || found.ID() != id || len(b.debts()) != 1 {
			t.Errorf("after %v: %v, %d owed", mode, found, len(b.debts()))
		}
		must(t, next.Stop(t.Context()))
	}
}

// TestNotDurable: where nobody can promise to keep a record, nothing may be done, and the entry still goes on with another number.
func TestNotDurable(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.ack = journal.AckLocal
	j := b.start()
	approved := send(t, j, "000001")
	doubtful := send(t, j, "000002")
	entered, release := b.fs.HoldSync("")
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_ = entered
	e := fresh(t, j, "000003")
	if err := e.Sending(short, "bank", []byte("sealed")); !errors.Is(err, journal.ErrNotDurable) {
		t.Errorf("sending without a disk: %v", err)
	}
	if err := approved.Conclude(short, txn.Answered, yes, ""); !errors.Is(err, journal.ErrNotDurable) {
		t.Errorf("outcome without a disk: %v", err)
	}
	if err := doubtful.Conclude(short, txn.Unknown, txn.Reply{}, "98"); !errors.Is(err, journal.ErrNotDurable) {
		t.Errorf("outcome without a disk: %v", err)
	}
	if got := len(b.debts()); got != 2 {
		t.Errorf("%d reversals owed, want those of the lost approval and of the doubt", got)
	}
	if state, err := approved.TakeBack(short, "98"); err == nil || state != txn.Reversing {
		t.Errorf("a reversal that is not durable was promised: %s, %v", state, err)
	}
	release()
	if state, err := approved.TakeBack(t.Context(), "98"); err != nil || state != txn.Reversing {
		t.Errorf("taken back: %s, %v", state, err)
	}
	must(t, e.Conclude(t.Context(), txn.NotSent, txn.Reply{Code: "96"}, ""))
	must(t, approved.Reversed(t.Context(), txn.Reply{Code: "00"}))
	must(t, j.Stop(t.Context()))
	rows, err := b.pool().Query(t.Context(), "SELECT trace || ' ' || seq || ' ' || state FROM transactions ORDER BY trace, seq")
	must(t, err)
	defer rows.Close()
	var got []string
	for rows.Next() {
		var s string
		must(t, rows.Scan(&s))
		got = append(got, s)
	}
	want := []string{
		"000001 1 sending", "000001 2 approved", "000001 3 reversing", "000001 4 reversed", "000002 1 sending", "000002 2 in_doubt",
		"000003 1 sending", "000003 2 failed",
	}
	if len(got) != len(want) {
		t.Fatalf("journal %q", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("journal %q, want %q", got[i], want[i])
		}
	}
}

func TestFailedDisk(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.ack = journal.AckLocal
	j := b.start()
	b.fs.FailSync(1, spooltest.StayDirty)
	if err := fresh(t, j, "000001").Sending(t.Context(), "bank", nil); !errors.Is(err, journal.ErrNotDurable) {
		t.Errorf("sending on a failed disk: %v", err)
	}
	select {
	case <-j.Failed():
	case <-time.After(patience):
		t.Error("a failed disk does not stop the instance")
	}
	if j.Admit() == nil {
		t.Error("new work on a failed disk")
	}
	if _, err := j.Tombstone(t.Context(), key("000009"), purchase, "98", time.Now(), nil); err == nil {
		t.Error("a tombstone on a failed disk")
	}
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	j := b.start()
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 25 {
				e, _ := j.Begin(key(string(rune('a'+g))+string(rune('a'+i))), content, purchase, time.Now())
				if err := e.Sending(t.Context(), "bank", []byte("sealed")); err != nil {
					t.Error(err)
				}
				if err := e.Conclude(t.Context(), txn.Answered, yes, ""); err != nil {
					t.Error(err)
				}
				if err := e.Answered(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	must(t, j.Stop(t.Context()))
	var n int
	must(t, b.pool().QueryRow(t.Context(), "SELECT count(*) FROM transactions").Scan(&n))
	if n != 600 {
		t.Errorf("%d records, want 600", n)
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	if _, err := journal.New(journal.Config{Ack: journal.AckLocal}); err == nil {
		t.Error("accepted without an instance")
	}
	if _, err := journal.New(journal.Config{Instance: "a", Ack: "maybe"}); err == nil {
		t.Error("accepted an unknown mode")
	}
}
