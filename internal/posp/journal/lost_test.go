package journal_test

import (
	"testing"

	"github.com/keyward/keyward/internal/spool/spooltest"
	"github.com/keyward/keyward/internal/txn"
)

// TestLostSpool: with the spool's directory gone, the mark of an answer may be gone with it, so an approval is not taken back behind
// the terminal's back; what was only sent is reversed as always.
func TestLostSpool(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	j := b.start()
	approved, sent := send(t, j, "000001"), send(t, j, "000002")
	approve(t, approved)
	must(t, j.Stop(t.Context()))

	b.fs = spooltest.New(2)
	j = b.start()
	debts := b.debts()
	if len(debts) != 1 || debts[0].ID() != sent.ID() {
		t.Fatalf("%d reversals are owed, want the one of the transaction that was only sent", len(debts))
	}
	e, err := j.Lookup(t.Context(), key("000001"))
	must(t, err)
	if state, _, answered := e.Standing(); state != txn.Approved || !answered {
		t.Errorf("the approval is %s, answered %v", state, answered)
	}
}
