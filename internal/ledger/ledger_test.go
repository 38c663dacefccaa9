package ledger_test

import (
	"bytes"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyward/keyward/internal/ledger"
	"github.com/keyward/keyward/internal/pgtest"
	"github.com/keyward/keyward/internal/postgres"
	"github.com/keyward/keyward/internal/txn"
	"github.com/keyward/keyward/migrations"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const (
	instance = "posp-1"
	day      = "2026-11-21"
)

var (
	start  = time.Date(2026, 11, 21, 10, 0, 0, 123456789, time.UTC)
	digest = bytes.Repeat([]byte{7}, 32)
	sealed = []byte("sealed card data")
)

// story writes records of one transaction with rising numbers.
type story struct {
	base ledger.Record
	all  []*ledger.Record
}

func begin(trace string) *story {
	k := txn.Key{Terminal: "10000001", Merchant: "104110000000001", Batch: "000001", Trace: trace, MTI: "0200", Type: "22"}
	s := &story{base: ledger.Record{
		Txn: txn.NewID(start), Date: day, Instance: instance, Began: start, Key: k, Kind: txn.Purchase, ProcCode: "000000", Amount: 1234,
		Currency: "156", PANMasked: "622202*********0018", PANDigest: []byte{1, 2}, Host: "bank",
	}}
	s.base.HostTrace, s.base.RRN = txn.HostReference(k, day)
	return s
}

func (s *story) add(e ledger.Event, state txn.State, change ...func(*ledger.Record)) *story {
	r := s.base
	r.Seq, r.Event, r.State, r.At = len(s.all)+1, e, state, start.Add(time.Duration(len(s.all))*time.Second)
	if r.Seq == 1 {
		r.Content = digest
	}
	for _, c := range change {
		c(&r)
	}
	s.all = append(s.all, &r)
	return s
}

func (s *story) sending() *story {
	return s.add(ledger.Sending, txn.Sending, func(r *ledger.Record) { r.Sealed = sealed })
}

func (s *story) outcome(state txn.State, o txn.Outcome, code string) *story {
	return s.add(ledger.Outcome, state, func(r *ledger.Record) {
		r.Outcome, r.Cause = o, "98"
		r.Reply = &txn.Reply{Code: code, AuthCode: "123456", SettlementDate: "1121", AcquirerID: "00010000", Institutions: "I", HostTime: start, RRN: r.RRN}
		if state == txn.InDoubt {
			r.NextTry = start.Add(time.Minute)
		}
	})
}

func open(t *testing.T) (*ledger.Store, *pgxpool.Pool) {
	t.Helper()
	pool := pgtest.New(t).Pool(t, migrations.RolePOSP)
	return ledger.New(pool), pool
}

func write(t *testing.T, s *ledger.Store, records ...*ledger.Record) []ledger.Conflict {
	t.Helper()
	conflicts, err := s.Write(t.Context(), records)
	if err != nil {
		t.Fatal(err)
	}
	return conflicts
}

func find(t *testing.T, s *ledger.Store, k txn.Key) *ledger.Standing {
	t.Helper()
	st, err := s.Find(t.Context(), k, time.Now().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// dump is all rows of the tables that Write touches, as text.
func dump(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	var out string
	err := pool.QueryRow(t.Context(), `SELECT concat_ws(E'\n',
		(SELECT string_agg(r::text, E'\n' ORDER BY txn_id, seq) FROM transactions r), (SELECT string_agg(k::text, E'\n' ORDER BY trace) FROM transaction_keys k),
		(SELECT string_agg(txn_id || instance || open || sealed::text, E'\n' ORDER BY txn_id) FROM transaction_secrets),
		(SELECT string_agg(txn_id || state || tries || next_try_at || response_code || coalesce(sealed::text, '-') || owner || cause || host_trace || rrn, E'\n' ORDER BY txn_id) FROM reversals))`).Scan(&out)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func count(t *testing.T, pool *pgxpool.Pool, table string) (n int) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestRecordRoundTrip(t *testing.T) {
	t.Parallel()
	for _, r := range begin("000001").sending().outcome(txn.InDoubt, txn.Unknown, "98").all {
		b, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := ledger.Decode(b)
		if err != nil || !reflect.DeepEqual(back, r) {
			t.Errorf("record came back as %+v (%v), was %+v", back, err, r)
		}
	}
	for _, bad := range []string{"", "{}", "null", "[]", `{"n":1,"e":"note"}`, `{"n":0,"e":"note","d":"2026-11-21"}`} {
		if _, err := ledger.Decode([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, r := range begin("000001").sending().outcome(txn.Approved, txn.Answered, "00").all {
		b, err := r.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ledger.Decode(b)
		if err != nil {
			return
		}
		again, err := r.Encode()
		if err != nil {
			return // a time of year 10000 decodes nowhere else
		}
		if _, err := ledger.Decode(again); err != nil {
			t.Errorf("an encoded record is refused: %v", err)
		}
	})
}

// TestStories: what is left in the projections after each course of a transaction, and that writing it again, whole or in part, changes
// nothing.
func TestStories(t *testing.T) {
	t.Parallel()
	sent := func(r *ledger.Record) { r.Tries, r.NextTry, r.Text = 1, start.Add(2*time.Minute), "no answer" }
	done := func(r *ledger.Record) { r.Tries, r.Reply = 2, &txn.Reply{Code: "00"} }
	queued := func(r *ledger.Record) { r.Cause, r.NextTry, r.Sealed = "96", start, sealed }
	tests := []struct {
		name     string
		s        *story
		state    txn.State
		secret   bool
		open     bool
		answered bool
		owed     bool
		code     string
	}{
		{"sending", begin("000001").sending(), txn.Sending, true, true, false, false, ""},
		{"approved", begin("000002").sending().outcome(txn.Approved, txn.Answered, "00"), txn.Approved, true, true, false, false, "00"},
		{"answered", begin("000003").sending().outcome(txn.Approved, txn.Answered, "00").add(ledger.Answered, txn.Approved), txn.Approved, true, false, true, false, "00"},
		{"declined", begin("000004").sending().outcome(txn.Declined, txn.Answered, "51"), txn.Declined, false, false, false, false, "51"},
		{"failed", begin("000005").sending().outcome(txn.Failed, txn.NotSent, "91"), txn.Failed, false, false, false, false, "91"},
		{"in doubt", begin("000006").sending().outcome(txn.InDoubt, txn.Unknown, "98"), txn.InDoubt, true, true, false, true, "98"},
		{"tried", begin("000007").sending().outcome(txn.InDoubt, txn.Unknown, "98").add(ledger.ReversalSent, txn.InDoubt, sent), txn.InDoubt, true, true, false, true, "98"},
		{"reversed", begin("000008").sending().outcome(txn.InDoubt, txn.Unknown, "98").add(ledger.ReversalSent, txn.InDoubt, sent).
			add(ledger.ReversalDone, txn.Reversed, done), txn.Reversed, false, false, false, false, "98"},
		{"taken back", begin("000009").sending().outcome(txn.Approved, txn.Answered, "00").add(ledger.Answered, txn.Approved).
			add(ledger.ReversalQueued, txn.Reversing, queued), txn.Reversing, true, false, true, true, "00"},
		{"balance", begin("000010").outcome(txn.Approved, txn.Answered, "00"), txn.Approved, false, false, false, false, "00"},
		{"tombstone", begin("000011").add(ledger.Outcome, txn.Reversed, func(r *ledger.Record) { r.Outcome, r.Text = txn.NotSent, "a reversal came first" }),
			txn.Reversed, false, false, false, false, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			store, pool := open(t)
			if c := write(t, store, test.s.all...); len(c) != 0 {
				t.Errorf("conflicts %v", c)
			}
			st := find(t, store, test.s.base.Key)
			if st == nil {
				t.Fatal("not found")
			}
			owed := count(t, pool, "reversals WHERE state = 'pending'") == 1
			if st.Last.State != test.state || (st.Sealed != nil) != test.secret || st.Open != test.open || st.Answered != test.answered || owed != test.owed {
				t.Errorf("standing: state %s, sealed %v, open %v, answered %v, owed %v", st.Last.State, st.Sealed != nil, st.Open, st.Answered, owed)
			}
			if got := st.Last.Reply; (got == nil) != (test.code == "") || got != nil && (got.Code != test.code || got.RRN != test.s.base.RRN ||
				got.AuthCode != "123456" || got.SettlementDate != "1121" || got.AcquirerID != "00010000" || got.Institutions != "I" || !got.HostTime.Equal(start)) {
				t.Errorf("reply %+v, want code %q", got, test.code)
			}
			l := st.Last
			if l.Txn != test.s.base.Txn || l.Key != test.s.base.Key || l.Date != day || !l.Began.Equal(start) || l.Amount != 1234 || l.HostTrace != test.s.base.HostTrace ||
				l.RRN != test.s.base.RRN || l.Kind != txn.Purchase || l.Host != "bank" || l.Seq != len(test.s.all) || !bytes.Equal(st.Content, digest) || l.Instance != instance {
				t.Errorf("last record %+v", l)
			}
			before := dump(t, pool)
			for from := range test.s.all { // a spool ships a tail of what it holds again
				write(t, store, test.s.all[from:]...)
				if after := dump(t, pool); after != before {
					t.Fatalf("written again from record %d on:\n%s\nbefore:\n%s", from+1, after, before)
				}
			}
			if strings.Contains(before, "6222020000000000018") {
				t.Error("a full card number is in the database")
			}
		})
	}
}

func TestTriesAreKept(t *testing.T) {
	t.Parallel()
	store, _ := open(t)
	next := start.Add(3 * time.Minute)
	s := begin("000001").sending().outcome(txn.InDoubt, txn.Unknown, "98")
	for i := range 3 {
		s.add(ledger.ReversalSent, txn.InDoubt, func(r *ledger.Record) { r.Tries, r.NextTry, r.Text = i+1, next, "no answer" })
	}
	write(t, store, s.all...)
	st := find(t, store, s.base.Key)
	if st.Tries != 3 || !st.NextTry.Equal(next.Truncate(time.Microsecond)) || st.Last.Cause != "98" {
		t.Errorf("tries %d, next %s, cause %q", st.Tries, st.NextTry, st.Last.Cause)
	}
	// An outage of weeks has more events than two bytes can count.
	late := s.base
	late.Seq, late.Event, late.State, late.At, late.Tries, late.NextTry = 40_000, ledger.ReversalSent, txn.InDoubt, start, 40_000, next
	write(t, store, &late)
}

func TestConflicts(t *testing.T) {
	t.Parallel()
	store, pool := open(t)
	first, second, third := begin("000001").sending(), begin("000001").sending(), begin("000001").sending()
	if c := write(t, store, first.all...); len(c) != 0 {
		t.Errorf("conflicts %v", c)
	}
	want := ledger.Conflict{Txn: second.base.Txn, Owner: first.base.Txn}
	for range 2 { // also when shipped again
		if c := write(t, store, second.all...); len(c) != 1 || c[0] != want {
			t.Errorf("conflicts %v, want %v", c, want)
		}
	}
	if st := find(t, store, first.base.Key); st.Last.Txn != first.base.Txn {
		t.Error("the loser of the conflict was found")
	}
	// Both in one commit.
	fourth := begin("000002").sending()
	fifth := begin("000002").sending()
	if c := write(t, store, fourth.all[0], fifth.all[0], third.all[0]); len(c) != 2 || c[0].Owner != fourth.base.Txn || c[1].Owner != first.base.Txn {
		t.Errorf("conflicts %v", c)
	}
	if n := count(t, pool, "transaction_keys"); n != 2 {
		t.Errorf("%d keys", n)
	}
}

// TestConflictOverMidnight: a repeat that reaches another instance after midnight is a repeat still; a day later the key is free.
func TestConflictOverMidnight(t *testing.T) {
	t.Parallel()
	store, pool := open(t)
	tomorrow := func(s *story) *story {
		s.base.Date, s.base.Began = "2026-11-22", start.Add(15*time.Hour)
		return s.sending()
	}
	first, second, other := begin("000001").sending(), tomorrow(begin("000001")), tomorrow(begin("000002"))
	write(t, store, first.all...)
	want := ledger.Conflict{Txn: second.base.Txn, Owner: first.base.Txn}
	for range 2 { // also when shipped again
		if c := write(t, store, second.all[0], other.all[0]); len(c) != 1 || c[0] != want {
			t.Errorf("conflicts %v, want %v", c, want)
		}
	}
	if st := find(t, store, first.base.Key); st == nil || st.Last.Txn != first.base.Txn {
		t.Error("the first transaction is not found")
	}
	later := begin("000001")
	later.base.Date, later.base.Began = "2026-11-22", time.Now().Add(26*time.Hour)
	if c := write(t, store, later.sending().all...); len(c) != 0 {
		t.Errorf("more than a day later: conflicts %v", c)
	}
	if n := count(t, pool, "transaction_keys"); n != 3 {
		t.Errorf("%d keys", n)
	}
}

// TestConflictWithUncommitted: the other instance's commit is not visible yet when ours is written; ours waits for it and then knows.
func TestConflictWithUncommitted(t *testing.T) {
	t.Parallel()
	store, pool := open(t)
	first, second := begin("000001").sending(), begin("000001").sending()
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	k := first.base.Key
	if _, err := tx.Exec(t.Context(), `INSERT INTO transaction_keys (terminal_id, merchant_id, batch, trace, mti, type60, business_date, content_digest, txn_id)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`, k.Terminal, k.Merchant, k.Batch, k.Trace, k.MTI, k.Type, start, digest, first.base.Txn); err != nil {
		t.Fatal(err)
	}
	type written struct {
		c   []ledger.Conflict
		err error
	}
	done := make(chan written, 1)
	go func() {
		c, err := store.Write(t.Context(), second.all)
		done <- written{c, err}
	}()
	for waiting := 0; waiting == 0; { // until ours waits for the other; bounded by the test's own time-out
		if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM pg_locks WHERE NOT granted").Scan(&waiting); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-done; got.err != nil || len(got.c) != 1 || got.c[0].Txn != second.base.Txn {
		t.Errorf("conflicts %v, %v", got.c, got.err)
	}
}

func TestLists(t *testing.T) {
	t.Parallel()
	store, pool := open(t)
	open1 := begin("000001").sending()
	owed := begin("000002").sending().outcome(txn.InDoubt, txn.Unknown, "98")
	closed := begin("000003").sending().outcome(txn.Approved, txn.Answered, "00").add(ledger.Answered, txn.Approved)
	foreign := begin("000004")
	foreign.base.Instance = "posp-2"
	foreign.sending()
	for _, s := range []*story{open1, owed, closed, foreign} {
		write(t, store, s.all...)
	}
	unfinished, err := store.Unfinished(t.Context(), instance)
	if err != nil || len(unfinished) != 2 {
		t.Fatalf("%d unfinished, %v", len(unfinished), err)
	}
	for _, s := range unfinished {
		if s.Last.Txn != open1.base.Txn && s.Last.Txn != owed.base.Txn {
			t.Errorf("unfinished: %s", s.Last.Key.Trace)
		}
	}
	recent, err := store.Recent(t.Context(), time.Now().Add(-time.Hour), 3)
	if err != nil || len(recent) != 3 || recent[0].Last.Txn != foreign.base.Txn {
		t.Errorf("%d recent, %v", len(recent), err)
	}
	if old, err := store.Recent(t.Context(), time.Now().Add(time.Hour), 3); err != nil || len(old) != 0 {
		t.Errorf("%d recent in the future, %v", len(old), err)
	}
	if st, err := store.Find(t.Context(), txn.Key{Terminal: "10000001"}, time.Time{}); st != nil || err != nil {
		t.Errorf("found %v, %v", st, err)
	}
	// Of a settled day only what is open or owed stays.
	erased, err := store.PurgeSecrets(t.Context(), start.AddDate(0, 0, 1))
	if err != nil || erased != 1 || count(t, pool, "transaction_secrets") != 3 {
		t.Errorf("erased %d, %v", erased, err)
	}
	if erased, err := store.PurgeSecrets(t.Context(), start); err != nil || erased != 0 {
		t.Errorf("erased %d, %v", erased, err)
	}
}

// TestPurgeKeys: of old days only the keys of what is open or owed stay, and nothing that is young by the database's clock goes.
func TestPurgeKeys(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	pool := db.Pool(t, migrations.RolePOSP)
	store := ledger.New(pool)
	done := begin("000001").sending().outcome(txn.Approved, txn.Answered, "00").add(ledger.Answered, txn.Approved)
	unsettled, owed := begin("000002").sending(), begin("000003").sending().outcome(txn.InDoubt, txn.Unknown, "98")
	for _, s := range []*story{done, unsettled, owed} {
		write(t, store, s.all...)
	}
	later := start.AddDate(0, 0, 4)
	if n, err := store.PurgeKeys(t.Context(), later); err != nil || n != 0 {
		t.Errorf("young keys: %d, %v", n, err)
	}
	if _, err := db.Pool(t, postgres.Superuser).Exec(t.Context(), "UPDATE transaction_keys SET created_at = created_at - interval '3 days'"); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		before time.Time
		want   int64
	}{{start, 0}, {later, 1}, {later, 0}} {
		if n, err := store.PurgeKeys(t.Context(), step.before); err != nil || n != step.want {
			t.Errorf("before %s: %d, %v, want %d", step.before.Format(time.DateOnly), n, err, step.want)
		}
	}
	if left, err := store.Unfinished(t.Context(), instance); err != nil || len(left) != 2 {
		t.Errorf("%d unfinished, %v", len(left), err)
	}
}

func TestWriteIsAllOrNothing(t *testing.T) {
	t.Parallel()
	store, pool := open(t)
	good, bad := begin("000001").sending(), begin("000002").sending()
	bad.all[0].PANMasked = "6222020000000000018" // the database refuses a full number
	if _, err := store.Write(t.Context(), []*ledger.Record{good.all[0], bad.all[0]}); err == nil || strings.Contains(err.Error(), "6222020000000000018") {
		t.Errorf("a full card number: %v", err)
	}
	if n := count(t, pool, "transactions"); n != 0 {
		t.Errorf("%d records stayed", n)
	}
	bad.all[0].Date = "today"
	if _, err := store.Write(t.Context(), bad.all); err == nil {
		t.Error("a bad date was accepted")
	}
	if err := store.EnsurePartitions(t.Context(), start, 2); err != nil {
		t.Error(err)
	}
}
