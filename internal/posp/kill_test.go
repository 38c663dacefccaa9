package posp_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyward/keyward/internal/posp"
	"github.com/keyward/keyward/internal/posp/journal"
	"github.com/keyward/keyward/internal/posp/posptest"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/sim/bank"
	"github.com/keyward/keyward/sim/hsm"
	"github.com/keyward/keyward/sim/pos"
)

// killSystem is a system whose posp is a process of its own, and a terminal with what it has done so far.
type killSystem struct {
	*system
	posp  *process
	term  *pos.Terminal
	lock  pgx.Tx // holds the journal table, nil when nobody does
	views []posptest.View
}

// settleTime bounds the time from a restart to the end of everything that was open.
const settleTime = 15 * time.Second

// killStep is one moment of a purchase: reach brings the purchase to it by stalling something real outside posp, and returns when the
// purchase stands there.
type killStep struct {
	name  string
	reach func(k *killSystem)
	// want is what must have become of the transaction, "" where both ends are right.
	want string
	// undo kills during the terminal's reversal of an answered purchase instead.
	undo bool
}

// killSteps walks a purchase and its reversal (docs/flow-purchase.md).
var killSteps = []killStep{
	{"3 verify the MAC", func(k *killSystem) { k.holdHSM("M8") }, "unknown", false},
	{"6 translate the PIN", func(k *killSystem) { k.holdHSM("CA") }, "unknown", false},
	{"7 record sending", func(k *killSystem) { k.lockJournal(); k.awaitLocked() }, "", false},
	{"8 MAC for the bank", func(k *killSystem) { k.holdHSM("M6") }, "reversed", false},
	{"8 bank works", func(k *killSystem) { k.holdBank("0200") }, "reversed", false},
	{"8 bank is silent", func(k *killSystem) {
		k.must(k.bank.SetFaults(bank.Fault{Kind: bank.LoseRequest, MTI: "0200"}))
		k.await("the request", func() bool { return k.seenByBank("0200") })
	}, "reversed", false},
	{"8 verify the bank's MAC", func(k *killSystem) {
		k.holdBank("0200")
		k.setHold("M8")
		k.bank.Release()
		k.awaitHeld("M8")
	}, "reversed", false},
	{"9 record the outcome", func(k *killSystem) {
		k.holdBank("0200")
		k.lockJournal()
		k.bank.Release()
		k.awaitLocked()
	}, "", false},
	{"10 MAC the answer", func(k *killSystem) {
		k.holdBank("0200")
		k.setHold("M6")
		k.bank.Release()
		k.awaitHeld("M6")
	}, "reversed", false},
	{"10 the answer is out", nil, "approved", false},
	{"reversal under way", func(k *killSystem) {
		k.must(k.bank.SetFaults(bank.Fault{Kind: bank.NoAnswer, MTI: "0200"}, bank.Fault{Kind: bank.Hold, MTI: "0400"}))
		k.must(k.bank.WaitHeld(k.bound(), "0400"))
	}, "reversed", false},
	{"record that the reversal is done", func(k *killSystem) {
		k.must(k.bank.SetFaults(bank.Fault{Kind: bank.NoAnswer, MTI: "0200"}, bank.Fault{Kind: bank.Hold, MTI: "0400"}))
		k.must(k.bank.WaitHeld(k.bound(), "0400"))
		k.lockJournal()
		k.bank.Release()
		k.awaitLocked()
	}, "reversed", false},
	{"verify the MAC of a 0400", func(k *killSystem) { k.holdHSM("M8") }, "reversed", true},
	{"record a 0400", func(k *killSystem) { k.lockJournal(); k.awaitLocked() }, "reversed", true},
	{"a 0400 at the bank", func(k *killSystem) { k.holdBank("0400") }, "reversed", true},
	{"MAC the answer to a 0400", func(k *killSystem) { k.holdBank("0400"); k.setHold("M6"); k.bank.Release(); k.awaitHeld("M6") }, "reversed", true},
}

// TestKillWalk kills posp with SIGKILL at every step of a purchase and starts it anew. No approved transaction's record is lost, every one
// ends in "answer handed to the socket" or "reversed" within a bounded time, and terminal, journal and bank agree.
func TestKillWalk(t *testing.T) {
	if testing.Short() {
		t.Skip("starts and kills processes")
	}
	t.Parallel()
	for _, mode := range []journal.AckMode{journal.AckDatabase, journal.AckLocal} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			k := newKillSystem(t, mode)
			for _, step := range killSteps {
				t.Run(strings.ReplaceAll(step.name, " ", "_"), func(t *testing.T) { k.t = t; k.walk(t, step) })
			}
			k.t = t
			want(t, k.term.Purchase(t.Context(), pos.Sale{AmountFen: 1, PAN: card1, PIN: pin1}), "00")
		})
	}
}

func newKillSystem(t *testing.T, mode journal.AckMode) *killSystem {
	t.Helper()
	s := newSystem(t, func(c *posp.Config) {
		c.Journal.Ack = mode
		c.Flow.HostTimeout = service.Duration(2 * time.Second)
	})
	k := &killSystem{system: s}
	k.posp = newProcess(s)
	k.term = s.terminal(1, nil)
	want(t, k.term.SignOn(t.Context()), "00")
	want(t, k.term.Purchase(t.Context(), pos.Sale{AmountFen: 1, PAN: card1, PIN: pin1}), "00")
	return k
}

func (k *killSystem) walk(t *testing.T, step killStep) {
	k.clear()
	sale := pos.Sale{AmountFen: 700, PAN: card1, PIN: pin1}
	act := func() pos.Result { return k.term.Purchase(context.Background(), sale) }
	if step.undo {
		want(t, act(), "00")
		act = func() pos.Result { return k.term.Reversal(context.Background()) }
	}
	result := make(chan pos.Result, 1)
	go func() { result <- act() }()
	var r pos.Result
	if step.reach != nil {
		step.reach(k)
	} else {
		r = <-result
	}
	k.posp.kill()
	if step.reach != nil {
		r = <-result // the terminal has lost its connection; nothing has been released yet
	}
	k.clear()
	k.posp.start()
	began := time.Now()
	// First posp alone brings everything to an end, then the terminal settles what it is in doubt about.
	k.awaitSettled(began)
	alone := time.Since(began)
	for pending := r.PendingReversal; pending; {
		if time.Since(began) > settleTime {
			t.Fatalf("the terminal's reversal does not get through: %+v", r)
		}
		pending = k.term.Reversal(t.Context()).PendingReversal
	}
	k.views = append(k.views, posptest.View{Terminal: r.Terminal, Trace: r.Trace, Kept: r.Outcome == pos.OutcomeApproved && !step.undo})
	k.awaitSettled(began)
	t.Logf("settled %s after the restart, with the terminal %s; terminal: %s %q", alone.Round(time.Millisecond), time.Since(began).Round(time.Millisecond), r.Outcome, r.Code)
	ctx, cancel := context.WithTimeout(t.Context(), settleTime)
	defer cancel()
	if err := posptest.Await(ctx, k.admin, k.bank.Book, k.views); err != nil {
		t.Errorf("%v; the log:\n%s", err, k.posp.tail())
	}
	// The work lists follow the journal in the same commit: nothing may be owed or open beside it.
	var owed int
	k.must(k.admin.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM reversals WHERE state <> 'done') + (SELECT count(*) FROM transaction_secrets WHERE open)`).Scan(&owed))
	if owed != 0 {
		t.Errorf("%d reversals or secrets are still open", owed)
	}
	var state string
	k.must(k.admin.QueryRow(t.Context(), `SELECT coalesce((SELECT state FROM transactions WHERE terminal_id = $1 AND trace = $2 ORDER BY at DESC, seq DESC LIMIT 1), 'unknown')`,
		r.Terminal, r.Trace).Scan(&state))
	// Before anything is sent the terminal's own reversal leaves a tombstone, or finds nothing sent.
	if ok := map[string]string{"unknown": "reversed", "": state}[step.want]; state != step.want && state != ok {
		t.Errorf("state %q, want %q", state, step.want)
	}
}

// awaitSettled waits until the journal is at its end.
func (k *killSystem) awaitSettled(began time.Time) {
	k.t.Helper()
	for {
		open, err := posptest.Open(k.t.Context(), k.admin)
		k.must(err)
		if len(open) == 0 {
			return
		}
		if time.Since(began) > settleTime {
			k.t.Fatalf("still open: %v; the log:\n%s", open, k.posp.tail())
		}
		time.Sleep(10 * time.Millisecond) // polling; there is no signal for it
	}
}

func (k *killSystem) bound() context.Context {
	ctx, cancel := context.WithTimeout(k.t.Context(), patience)
	k.t.Cleanup(cancel)
	return ctx
}

// clear lifts every stall.
func (k *killSystem) clear() {
	k.t.Helper()
	if k.lock != nil {
		k.must(k.lock.Rollback(context.Background()))
		k.lock = nil
	}
	k.must(k.hsm.SetFaults(hsm.Faults{}))
	k.must(k.bank.SetFaults())
	k.bank.Release()
}

func (k *killSystem) setHold(command string) {
	k.must(k.hsm.SetFaults(hsm.Faults{Hold: []string{command}}))
}

func (k *killSystem) awaitHeld(command string) {
	k.t.Helper()
	if err := k.hsm.WaitHeld(k.bound(), command); err != nil {
		k.t.Fatalf("%s is not asked for: %v; the log:\n%s", command, err, k.posp.tail())
	}
}

func (k *killSystem) holdHSM(command string) { k.setHold(command); k.awaitHeld(command) }

func (k *killSystem) holdBank(mti string) {
	k.t.Helper()
	k.must(k.bank.SetFaults(bank.Fault{Kind: bank.Hold, MTI: mti}))
	if err := k.bank.WaitHeld(k.bound(), mti); err != nil {
		k.t.Fatalf("the bank sees no %s: %v; the log:\n%s", mti, err, k.posp.tail())
	}
}

// lockJournal keeps posp from writing into the journal table.
func (k *killSystem) lockJournal() {
	k.t.Helper()
	tx, err := k.admin.Begin(context.Background())
	k.must(err)
	_, err = tx.Exec(context.Background(), `LOCK TABLE transactions IN ACCESS EXCLUSIVE MODE`)
	k.must(err)
	k.lock = tx
}

// awaitLocked waits until posp stands before the locked table.
func (k *killSystem) awaitLocked() {
	k.t.Helper()
	k.await("posp before the lock", func() bool {
		var n int
		k.must(k.admin.QueryRow(context.Background(), `SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
			WHERE d.datname = current_database() AND NOT l.granted AND l.relation = 'transactions'::regclass`).Scan(&n))
		return n > 0
	})
}

// seenByBank says that the newest message of the bank is of this type.
func (k *killSystem) seenByBank(mti string) bool {
	history := k.bank.History(1)
	return len(history) > 0 && history[len(history)-1].MTI == mti
}
