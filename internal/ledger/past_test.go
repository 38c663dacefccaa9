package ledger_test

import (
	"errors"
	"testing"
	"time"

	"github.com/keyward/keyward/internal/ledger"
	"github.com/keyward/keyward/internal/txn"
)

func reference(change func(*ledger.Reference)) ledger.Reference {
	r := ledger.Reference{Merchant: "104110000000001", Kinds: []txn.Kind{txn.Purchase, txn.PreAuth}, From: start.AddDate(0, 0, -1), To: start.AddDate(0, 0, 1)}
	change(&r)
	return r
}

func TestPast(t *testing.T) {
	t.Parallel()
	store, _ := open(t)
	bought, held := begin("000001").sending().outcome(txn.Approved, txn.Answered, "00"), begin("000002")
	held.base.Kind, held.base.Key.MTI, held.base.Key.Type = txn.PreAuth, "0100", "10"
	held.sending().outcome(txn.Approved, txn.Answered, "00")
	write(t, store, bought.all...)
	write(t, store, held.all...)
	card := []byte{1, 2}
	for name, c := range map[string]struct {
		change func(*ledger.Reference)
		want   *story
	}{
		"trace":         {func(r *ledger.Reference) { r.Terminal, r.Batch, r.Trace = "10000001", "000001", "000001" }, bought},
		"other batch":   {func(r *ledger.Reference) { r.Terminal, r.Batch, r.Trace = "10000001", "000002", "000001" }, nil},
		"reference":     {func(r *ledger.Reference) { r.RRN = bought.base.RRN }, bought},
		"card":          {func(r *ledger.Reference) { r.PANDigest, r.AuthCode = card, "123456" }, held},
		"other code":    {func(r *ledger.Reference) { r.PANDigest, r.AuthCode = card, "654321" }, nil},
		"other kind":    {func(r *ledger.Reference) { r.RRN, r.Kinds = bought.base.RRN, []txn.Kind{txn.Completion} }, nil},
		"other day":     {func(r *ledger.Reference) { r.RRN, r.From = bought.base.RRN, start.AddDate(0, 0, 1) }, nil},
		"not this shop": {func(r *ledger.Reference) { r.RRN, r.Merchant = bought.base.RRN, "104110000000002" }, nil},
	} {
		got, err := store.Past(t.Context(), reference(c.change))
		switch {
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want == nil && got != nil, c.want != nil && got == nil:
			t.Errorf("%s: found %v", name, got)
		case c.want != nil:
			b := c.want.base
			if got.Txn != b.Txn || got.State != txn.Approved || got.Amount != b.Amount || got.RRN != b.RRN || got.HostTrace != b.HostTrace ||
				got.Host != b.Host || got.Reply.AuthCode != "123456" || !got.Began.Equal(b.Began) || got.Kind != b.Kind || got.Date != day {
				t.Errorf("%s: %+v", name, got)
			}
		}
	}
	if _, err := store.Past(t.Context(), reference(func(*ledger.Reference) {})); err == nil {
		t.Error("a reference that names nothing was accepted")
	}
	// Adjusted: the newest that was not refused counts.
	for i, c := range []struct {
		amount int64
		state  txn.State
		want   int64
	}{{1400, txn.Approved, 1400}, {1500, txn.Declined, 1400}, {1300, txn.Forwarding, 1300}} {
		tip := begin("00010" + string(rune('0'+i)))
		tip.base.Kind, tip.base.Original, tip.base.Amount = txn.TipAdjustment, bought.base.Txn, c.amount
		tip.sending().outcome(c.state, txn.Answered, "00")
		for _, r := range tip.all {
			r.At = start.Add(time.Duration(i+1) * time.Hour)
		}
		write(t, store, tip.all...)
		got, err := store.Past(t.Context(), reference(func(r *ledger.Reference) { r.RRN = bought.base.RRN }))
		if err != nil || got.Amount != c.want {
			t.Errorf("adjusted to %d (%s): %v, %v, want %d", c.amount, c.state, got, err, c.want)
		}
		if c.state == txn.Forwarding { // refused in the end
			write(t, store, tip.add(ledger.Delivered, txn.Declined).all[2])
			if got, err := store.Past(t.Context(), reference(func(r *ledger.Reference) { r.RRN = bought.base.RRN })); err != nil || got.Amount != 1400 {
				t.Errorf("refused in the end: %v, %v", got, err)
			}
		}
	}
	write(t, store, bought.add(ledger.ReversalQueued, txn.Reversing).all[2])
	if got, err := store.Past(t.Context(), reference(func(r *ledger.Reference) { r.RRN = bought.base.RRN })); err != nil || got.State != txn.Reversing {
		t.Errorf("%v, %v", got, err)
	}
}

// TestUseFollowsItsTransaction: what was taken of an original is kept or given back by the records of the transaction that took it, once and
// again.
func TestUseFollowsItsTransaction(t *testing.T) {
	t.Parallel()
	store, pool := open(t)
	original := txn.NewID(start)
	use := func(s *story) error {
		return store.Use(t.Context(), ledger.Use{
			Txn: s.base.Txn, Original: original, Amount: 60, Allowed: 100, Instance: instance, Date: day,
		})
	}
	state := func(s *story) (state string) {
		if err := pool.QueryRow(t.Context(), "SELECT state FROM transaction_uses WHERE txn_id = $1", s.base.Txn).Scan(&state); err != nil {
			t.Fatal(err)
		}
		return state
	}
	refund := func(trace string, kind txn.Kind) *story {
		s := begin(trace)
		s.base.Kind, s.base.Original = kind, original
		if err := use(s); err != nil {
			t.Fatalf("%s: %v", trace, err)
		}
		return s.sending()
	}
	for i := range 2 { // written again, as after a crash
		declined := refund("00001"+string(rune('0'+i)), txn.Refund).outcome(txn.Declined, txn.Answered, "51")
		write(t, store, declined.all...)
		if got := state(declined); got != "released" {
			t.Errorf("declined: %s", got)
		}
		write(t, store, declined.all...)
	}
	void := refund("000020", txn.PurchaseVoid).outcome(txn.InDoubt, txn.Unknown, "")
	write(t, store, void.all...)
	if got := state(void); got != "held" {
		t.Errorf("in doubt: %s", got)
	}
	if err := use(begin("000021")); !errors.Is(err, ledger.ErrOver) {
		t.Errorf("beside one in doubt: %v", err)
	}
	void.add(ledger.ReversalDone, txn.Reversed)
	write(t, store, void.all[2])
	if got := state(void); got != "released" {
		t.Errorf("reversed: %s", got)
	}
	write(t, store, void.all...)
	if got := state(void); got != "released" {
		t.Errorf("reversed, written again: %s", got)
	}
	unresolved := refund("000030", txn.Refund).outcome(txn.Unresolved, txn.Unknown, "")
	write(t, store, unresolved.all...)
	if got := state(unresolved); got != "held" {
		t.Errorf("unresolved: %s", got)
	}
	var work, secrets int
	if err := pool.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM reversals WHERE txn_id = $1 AND action = 'reconcile' AND state = 'stopped' AND sealed IS NULL),
		(SELECT count(*) FROM transaction_secrets WHERE txn_id = $1)`, unresolved.base.Txn).Scan(&work, &secrets); err != nil || work != 1 || secrets != 0 {
		t.Errorf("%d entries for reconciliation, %d secrets, %v", work, secrets, err)
	}
	st, err := store.Find(t.Context(), unresolved.base.Key, time.Time{})
	if err != nil || st.Last.Original != original {
		t.Errorf("the original after a restart: %v, %v", st, err)
	}

	// What the last life took for nothing is given back.
	if _, err := store.ReleaseUses(t.Context(), instance); err != nil || state(unresolved) != "held" {
		t.Errorf("%v, %s", err, state(unresolved))
	}
	small := begin("000040")
	if err := store.Use(t.Context(), ledger.Use{Txn: small.base.Txn, Original: original, Amount: 1, Allowed: 100, Instance: instance, Date: day}); err != nil {
		t.Fatal(err)
	}
	if err := store.Use(t.Context(), ledger.Use{Txn: begin("000041").base.Txn, Original: original, Amount: 1, Allowed: 100, Alone: true, Date: day}); !errors.Is(err, ledger.ErrTaken) {
		t.Errorf("alone beside others: %v", err)
	}
	if n, err := store.ReleaseUses(t.Context(), instance); err != nil || n != 1 || state(small) != "released" {
		t.Errorf("%d given back, %v", n, err)
	}
	if n, err := store.PurgeUses(t.Context(), start); err != nil || n != 0 {
		t.Errorf("%d removed, %v", n, err)
	}
	if n, err := store.PurgeUses(t.Context(), start.AddDate(0, 0, 1)); err != nil || n != 5 {
		t.Errorf("%d removed, %v", n, err)
	}
}

// TestAdviceIsOwed: an advice without an answer is owed by the instance until it is delivered.
func TestAdviceIsOwed(t *testing.T) {
	t.Parallel()
	store, pool := open(t)
	s := begin("000001")
	s.base.Kind = txn.TipAdjustment
	s.sending().outcome(txn.Forwarding, txn.Unknown, "00").add(ledger.Repeated, txn.Forwarding, func(r *ledger.Record) { r.Tries = 1 })
	write(t, store, s.all...)
	list, err := store.Unfinished(t.Context(), instance)
	if err != nil || len(list) != 1 || list[0].Last.State != txn.Forwarding || list[0].Tries != 1 || string(list[0].Sealed) != string(sealed) {
		t.Fatalf("%+v, %v", list, err)
	}
	s.add(ledger.Delivered, txn.Approved, func(r *ledger.Record) { r.Reply = &txn.Reply{Code: "00"} })
	write(t, store, s.all[3])
	if list, err = store.Unfinished(t.Context(), instance); err != nil || len(list) != 0 || count(t, pool, "transaction_secrets") != 0 {
		t.Errorf("%d unfinished, %v", len(list), err)
	}
}
