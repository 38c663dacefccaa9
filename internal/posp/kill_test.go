package posp_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
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

// killStep is one moment of a purchase.
type killStep struct {
	name string
	// set stalls something real outside posp before the purchase begins.
	set func(k *killSystem)
	// reach returns when the purchase stands at the moment; it may set further stalls while an earlier one holds.
	reach func(k *killSystem)
	// want is what must have become of the transaction, "" where several ends are right.
	want string
	// undo kills during the terminal's reversal of an answered purchase instead.
	undo bool
}

func holdHSM(command string) func(*killSystem)   { return func(k *killSystem) { k.setHold(command) } }
func heldByHSM(command string) func(*killSystem) { return func(k *killSystem) { k.awaitHeld(command) } }
func holdBank(mti string) func(*killSystem) {
	return func(k *killSystem) { k.setBank(bank.Fault{Kind: bank.Hold, MTI: mti}) }
}
func heldByBank(mti string) func(*killSystem) { return func(k *killSystem) { k.awaitBank(mti) } }

// thenHSM lets the bank's held answer go and waits until posp asks the HSM for a command.
func thenHSM(mti, command string) func(*killSystem) {
	return func(k *killSystem) {
		k.awaitBank(mti)
		k.setHold(command)
		k.bank.Release()
		k.awaitHeld(command)
	}
}

// thenLocked lets the bank's held answer go and waits until posp stands before the locked journal.
func thenLocked(mti string) func(*killSystem) {
	return func(k *killSystem) {
		k.awaitBank(mti)
		k.lockJournal()
		k.bank.Release()
		k.awaitLocked()
	}
}

// silentThenHold makes the bank swallow the purchase's answer and hold that of its reversal.
func silentThenHold(k *killSystem) {
	k.setBank(bank.Fault{Kind: bank.NoAnswer, MTI: "0200"}, bank.Fault{Kind: bank.Hold, MTI: "0400"})
}

// killSteps walks a purchase and its reversal (docs/flow-purchase.md).
var killSteps = []killStep{
	{name: "3 verify the MAC", set: holdHSM("M8"), reach: heldByHSM("M8"), want: "reversed"}, // by the terminal's tombstone
	{name: "6 translate the PIN", set: holdHSM("CA"), reach: heldByHSM("CA"), want: "reversed"},
	{name: "7 record sending", set: (*killSystem).lockJournal, reach: (*killSystem).awaitLocked},
	{name: "8 MAC for the bank", set: holdHSM("M6"), reach: heldByHSM("M6"), want: "reversed"},
	{name: "8 bank works", set: holdBank("0200"), reach: heldByBank("0200"), want: "reversed"},
	{name: "8 bank is silent", set: func(k *killSystem) { k.setBank(bank.Fault{Kind: bank.LoseRequest, MTI: "0200"}) }, reach: func(k *killSystem) {
		k.await("the request", func() bool { return k.seenByBank("0200") })
	}, want: "reversed"},
	{name: "8 verify the bank's MAC", set: holdBank("0200"), reach: thenHSM("0200", "M8"), want: "reversed"},
	{name: "9 record the outcome", set: holdBank("0200"), reach: thenLocked("0200")},
	{name: "10 MAC the answer", set: holdBank("0200"), reach: thenHSM("0200", "M6"), want: "reversed"},
	{name: "10 the answer is out", want: "approved"},
	{name: "reversal under way", set: silentThenHold, reach: heldByBank("0400"), want: "reversed"},
	{name: "record that the reversal is done", set: silentThenHold, reach: thenLocked("0400"), want: "reversed"},
	{name: "verify the MAC of a 0400", set: holdHSM("M8"), reach: heldByHSM("M8"), want: "reversed", undo: true},
	{name: "record a 0400", set: (*killSystem).lockJournal, reach: (*killSystem).awaitLocked, want: "reversed", undo: true},
	{name: "a 0400 at the bank", set: holdBank("0400"), reach: heldByBank("0400"), want: "reversed", undo: true},
	{name: "MAC the answer to a 0400", set: holdBank("0400"), reach: thenHSM("0400", "M6"), want: "reversed", undo: true},
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
				if !t.Run(strings.ReplaceAll(step.name, " ", "_"), func(t *testing.T) { k.t = t; k.walk(t, step) }) {
					return // what one step left behind would only confuse the next ones
				}
			}
			k.t = t
			want(t, k.term.Purchase(t.Context(), pos.Sale{AmountFen: 1, PAN: card1, PIN: pin1}), "00")
			k.posp.kill()
			k.noSecrets()
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
	if step.set != nil {
		step.set(k)
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
	if r.Code == "" && !step.undo {
		// No answer has left posp, so it must not count as answered: nobody but posp itself may be needed for the money.
		k.agree(append(k.views[:len(k.views):len(k.views)], posptest.View{Terminal: r.Terminal, Trace: r.Trace}))
	}
	for pending := r.PendingReversal; pending; {
		if time.Since(began) > settleTime {
			t.Fatalf("the terminal's reversal does not get through: %+v", r)
		}
		pending = k.term.Reversal(t.Context()).PendingReversal
	}
	k.views = append(k.views, posptest.View{Terminal: r.Terminal, Trace: r.Trace, Kept: r.Outcome == pos.OutcomeApproved && !step.undo})
	k.awaitSettled(began)
	t.Logf("settled %s after the restart, with the terminal %s; terminal: %s %q", alone.Round(time.Millisecond), time.Since(began).Round(time.Millisecond), r.Outcome, r.Code)
	k.agree(k.views)
	// The work lists follow the journal in the same commit: nothing may be owed or open beside it. In local mode the database may lag.
	k.await("empty work lists", func() (empty bool) {
		k.must(k.admin.QueryRow(t.Context(), `SELECT NOT EXISTS (SELECT FROM reversals WHERE state <> 'done') AND NOT EXISTS (SELECT FROM transaction_secrets WHERE open)`).Scan(&empty))
		return empty
	})
	if step.want != "" {
		k.await("the state "+step.want, func() bool { return k.stateOf(r) == step.want })
	}
}

// stateOf is the last state of a terminal's transaction in the journal, "" for none.
func (k *killSystem) stateOf(r pos.Result) (state string) {
	k.t.Helper()
	k.must(k.admin.QueryRow(k.t.Context(), `SELECT coalesce((SELECT state FROM transactions WHERE terminal_id = $1 AND trace = $2
		ORDER BY txn_id DESC, seq DESC LIMIT 1), '')`, r.Terminal, r.Trace).Scan(&state))
	return state
}

// agree waits until terminal, journal and bank agree.
func (k *killSystem) agree(views []posptest.View) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), settleTime)
	defer cancel()
	if err := posptest.Await(ctx, k.admin, k.bank.Book, views); err != nil {
		k.t.Fatalf("%v; the log:\n%s", err, k.posp.tail())
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

// noSecrets looks for card data and keys in what the process has left behind: its log and its spool.
func (k *killSystem) noSecrets() {
	k.t.Helper()
	files, err := filepath.Glob(filepath.Join(k.spoolDir, "*"))
	k.must(err)
	read := 0
	for _, file := range append(files, k.posp.log) {
		content, err := os.ReadFile(file)
		k.must(err)
		read += len(content)
		text := strings.ToUpper(string(content))
		if bytes.Contains(content, unhex(card1 + "0")[:9]) {
			k.t.Errorf("%s holds a packed card number", filepath.Base(file))
		}
		for _, secret := range []string{card1, strings.ToUpper(hex.EncodeToString([]byte(card1))),
			base64.StdEncoding.EncodeToString([]byte(card1))[:20], rootKey, zpkKey, zakKey, sealKey} {
			if strings.Contains(text, strings.ToUpper(secret)) {
				k.t.Errorf("%s holds a secret of %d characters", filepath.Base(file), len(secret))
			}
		}
	}
	if read < 1000 {
		k.t.Errorf("only %d bytes were searched", read)
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

func (k *killSystem) setBank(faults ...bank.Fault) { k.must(k.bank.SetFaults(faults...)) }

func (k *killSystem) awaitBank(mti string) {
	k.t.Helper()
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
