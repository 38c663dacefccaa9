package journal_test

import (
	"errors"
	"testing"
	"time"

	"github.com/keyward/keyward/internal/ledger"
	"github.com/keyward/keyward/internal/posp/journal"
	"github.com/keyward/keyward/internal/txn"
)

// begin takes up a transaction of a kind and records it as sending.
func begin(t *testing.T, j *journal.Journal, kind txn.Kind, trace string) *journal.Entry {
	t.Helper()
	base := purchase
	base.Kind = kind
	e, v := j.Begin(key(trace), content, base, time.Now())
	if v != journal.Fresh {
		t.Fatalf("verdict %v", v)
	}
	must(t, e.Sending(t.Context(), "bank", []byte("sealed")))
	return e
}

// TestDoubtByKind: where an outcome brings a transaction, by its kind, in this life and in the next.
func TestDoubtByKind(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	j := b.start()
	taken := txn.Reply{Code: "00", RRN: "R"}
	for _, c := range []struct {
		trace   string
		kind    txn.Kind
		outcome txn.Outcome
		reply   txn.Reply
		want    txn.State
		owes    bool
	}{
		{"000001", txn.CompletionVoid, txn.Unknown, txn.Reply{Code: "98"}, txn.InDoubt, true},
		{"000002", txn.CompletionVoid, txn.NotSent, txn.Reply{Code: "91"}, txn.Failed, false},
		{"000003", txn.TipAdjustment, txn.Unknown, taken, txn.Forwarding, true},
		{"000004", txn.TipAdjustment, txn.NotSent, taken, txn.Forwarding, true},
		{"000005", txn.TipAdjustment, txn.Answered, yes, txn.Approved, false},
		{"000006", txn.TipAdjustment, txn.Answered, no, txn.Declined, false},
		{"000007", txn.Refund, txn.Unknown, txn.Reply{Code: "98"}, txn.Unresolved, false},
		{"000008", txn.Refund, txn.NotSent, txn.Reply{Code: "91"}, txn.Failed, false},
	} {
		before := len(b.debts())
		e := begin(t, j, c.kind, c.trace)
		must(t, e.Conclude(t.Context(), c.outcome, c.reply, "98"))
		if state, _, _ := e.Standing(); state != c.want || (len(b.debts()) > before) != c.owes || !closed(e.Settled()) {
			t.Errorf("%s %s: %s, %d owed", c.kind, c.outcome, state, len(b.debts())-before)
		}
		if state, err := e.TakeBack(t.Context(), "96"); err != nil || state != c.want {
			t.Errorf("%s taken back: %s, %v", c.kind, state, err)
		}
	}
	begin(t, j, txn.OfflinePurchase, "000009") // sent, and the process dies
	begin(t, j, txn.Refund, "000010")
	b.kill()
	j = b.start()
	for trace, want := range map[string]txn.State{"000003": txn.Forwarding, "000005": txn.Approved, "000009": txn.Forwarding, "000010": txn.Unresolved} {
		e, err := j.Lookup(t.Context(), key(trace))
		must(t, err)
		if state, reply, _ := e.Standing(); state != want || want == txn.Forwarding && (reply == nil || reply.Code != "00") {
			t.Errorf("%s after a restart: %s, %v", trace, state, reply)
		}
	}
	if got := len(b.debts()); got != 4 { // the void in doubt and three advices
		t.Errorf("%d owed after the restart", got)
	}

	// An answer, then the end: nothing is owed any more.
	e, err := j.Lookup(t.Context(), key("000009"))
	must(t, err)
	must(t, e.Tried(time.Now(), "silence"))
	must(t, e.Delivered(t.Context(), no))
	must(t, e.Delivered(t.Context(), no))
	if state, reply, _ := e.Standing(); state != txn.Declined || reply.Code != "00" || e.Sealed() != nil {
		t.Errorf("delivered and declined: %s, %v", state, reply)
	}
	if e.Tried(time.Now(), "again") == nil {
		t.Error("a try of what is not owed was recorded")
	}
	must(t, j.Stop(t.Context()))
	b.start()
	if got := len(b.debts()); got != 3 {
		t.Errorf("%d owed after the delivery", got)
	}
}

// TestDrop: what was not recorded may come again; what was recorded stays.
func TestDrop(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	j := b.start()
	first := fresh(t, j, "000001")
	first.Drop()
	second := fresh(t, j, "000001")
	must(t, second.Sending(t.Context(), "bank", []byte("sealed")))
	second.Drop()
	if _, v := j.Begin(key("000001"), content, purchase, time.Now()); v != journal.Repeat {
		t.Errorf("verdict %v", v)
	}
	if !closed(first.Settled()) || closed(second.Settled()) {
		t.Error("who waits for the first must be let go, who waits for the second must not")
	}
}

// TestTombstoneIsOwed: a reversal of an unknown original that the host can be told of is owed, also by the next life, and keeps the original away.
func TestTombstoneIsOwed(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	j := b.start()
	seal := func(txn.ID) (string, []byte) { return "bank", []byte("sealed") }
	e, err := j.Tombstone(t.Context(), key("000001"), purchase, "98", time.Now(), seal)
	must(t, err)
	if state, _, _ := e.Standing(); state != txn.InDoubt || len(b.debts()) != 1 || closed(e.Undone()) || !closed(e.Settled()) {
		t.Errorf("state %s, %d owed", state, len(b.debts()))
	}
	b.kill()
	j = b.start()
	if len(b.debts()) != 1 {
		t.Fatalf("%d owed after a restart", len(b.debts()))
	}
	owed := b.debts()[0]
	if cause, _, _ := owed.Owes(); cause != "98" || string(owed.Sealed()) != "sealed" || owed.Original().Host != "bank" {
		t.Errorf("owed: cause %s, host %s", cause, owed.Original().Host)
	}
	if _, v := j.Begin(key("000001"), content, purchase, time.Now()); v != journal.Withdrawn {
		t.Errorf("verdict %v", v)
	}
	must(t, owed.Reversed(t.Context(), txn.Reply{Code: "25"}))
	if state, _, _ := owed.Standing(); state != txn.Reversed || !closed(owed.Undone()) {
		t.Errorf("state %s", state)
	}
}

// TestUse: an original is found when it was recorded a moment ago, used once, and free again when the use came to nothing, also in the next life.
func TestUse(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.ack = journal.AckLocal // the database follows
	j := b.start()
	ctx := t.Context()
	bought := begin(t, j, txn.Purchase, "000001")
	must(t, bought.Conclude(ctx, txn.Answered, yes, ""))
	must(t, bought.Answered())
	today := time.Now().UTC()
	ref := ledger.Reference{
		Merchant: "104110000000001", Kinds: []txn.Kind{txn.Purchase}, Terminal: "10000001", Batch: "000001", Trace: "000001",
		From: today.AddDate(0, 0, -1), To: today.AddDate(0, 0, 1),
	}
	past, err := j.Past(ctx, ref)
	must(t, err)
	if past == nil || past.Txn != bought.ID() {
		t.Fatalf("found %v", past)
	}
	use := func(trace string) (*journal.Entry, error) {
		base := purchase
		base.Kind = txn.PurchaseVoid
		e, _ := j.Begin(key(trace), content, base, time.Now())
		return e, e.Use(ctx, past, 1234, true)
	}
	void, err := use("000002")
	must(t, err)
	if _, err := use("000003"); !errors.Is(err, ledger.ErrTaken) {
		t.Errorf("used twice: %v", err)
	}
	must(t, void.Sending(ctx, "bank", []byte("sealed")))
	must(t, void.Conclude(ctx, txn.Unknown, txn.Reply{Code: "98"}, "98"))
	if _, err := use("000004"); !errors.Is(err, ledger.ErrTaken) {
		t.Errorf("used beside one in doubt: %v", err)
	}
	must(t, j.Stop(ctx))
	j = b.start()
	must(t, b.debts()[0].Reversed(ctx, txn.Reply{Code: "00"}))
	must(t, j.Stop(ctx))
	j = b.start()
	if _, err := use("000005"); err != nil {
		t.Errorf("after the reversal: %v", err)
	}
	b.kill() // taken, and nothing of it recorded
	j = b.start()
	if _, err := use("000006"); err != nil {
		t.Errorf("after a death with nothing recorded: %v", err)
	}
}
