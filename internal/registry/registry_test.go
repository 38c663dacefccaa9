package registry_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyward/keyward/internal/audit"
	"github.com/keyward/keyward/internal/pgtest"
	"github.com/keyward/keyward/internal/postgres"
	"github.com/keyward/keyward/internal/registry"
	"github.com/keyward/keyward/migrations"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const (
	shop = "104110000000001"
	t1   = "10000001"
	t2   = "10000002"
	who  = "li"
)

// psam numbers the cards of the tests.
func psam(n int) string { return fmt.Sprintf("6%019d", n) }

// fixture is a shop with two terminals and three personalised cards; the first card sits in the first terminal.
type fixture struct {
	*registry.Store
	db   *pgtest.DB
	pool *pgxpool.Pool
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	db := pgtest.New(t)
	f := &fixture{db: db, pool: db.Pool(t, migrations.RolePOSV)}
	f.Store = registry.New(f.pool)
	ctx := t.Context()
	if _, created, err := f.PutMerchant(ctx, who, shop, "Shop", ""); err != nil || !created {
		t.Fatal(created, err)
	}
	for _, id := range []string{t1, t2} {
		if _, created, err := f.PutTerminal(ctx, who, id, registry.TerminalChange{MerchantID: shop}); err != nil || !created {
			t.Fatal(created, err)
		}
	}
	for n := 1; n <= 3; n++ {
		if _, created, err := f.AddCard(ctx, who, psam(n)); err != nil || !created {
			t.Fatal(created, err)
		}
		f.card(t, psam(n), "personalised")
	}
	if _, created, err := f.Bind(ctx, who, t1, psam(1), "first"); err != nil || !created {
		t.Fatal(created, err)
	}
	return f
}

func (f *fixture) card(t *testing.T, no, state string) {
	t.Helper()
	if _, err := f.SetCardState(t.Context(), who, no, state, "test"); err != nil {
		t.Fatal(err)
	}
}

// changes lists the device changes after seq as "terminal kind".
func (f *fixture) changes(t *testing.T, after int64) []string {
	t.Helper()
	rows, err := f.pool.Query(t.Context(), "SELECT terminal_id || ' ' || kind FROM device_changes WHERE seq > $1 ORDER BY seq", after)
	if err != nil {
		t.Fatal(err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (f *fixture) number(t *testing.T, query string) (n int64) {
	t.Helper()
	if err := f.pool.QueryRow(t.Context(), query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestEveryChangeLeavesItsTraces: row, history, device changes for every terminal concerned, and exactly one audit record; the
// same request again leaves nothing.
func TestEveryChangeLeavesItsTraces(t *testing.T) {
	t.Parallel()
	sm4, test := "sm4", true
	tests := []struct {
		name    string
		do      func(ctx context.Context, s *registry.Store) error
		changes string // device changes, joined
		events  int64  // rows of both event tables
		audit   string // action of the record
	}{
		{"new merchant", func(ctx context.Context, s *registry.Store) error {
			_, _, err := s.PutMerchant(ctx, who, "104110000000002", "商户", "")
			return err
		}, "", 0, "merchant.register"},
		{"merchant's name", func(ctx context.Context, s *registry.Store) error {
			_, _, err := s.PutMerchant(ctx, who, shop, "New name", "")
			return err
		}, "", 0, "merchant.change"},
		{"merchant suspended", func(ctx context.Context, s *registry.Store) error {
			_, _, err := s.PutMerchant(ctx, who, shop, "Shop", "suspended")
			return err
		}, "10000001 merchant,10000002 merchant", 0, "merchant.change"},
		{"new terminal", func(ctx context.Context, s *registry.Store) error {
			_, _, err := s.PutTerminal(ctx, who, "10000003", registry.TerminalChange{MerchantID: shop, Algorithm: &sm4})
			return err
		}, "10000003 terminal", 1, "terminal.register"},
		{"terminal changed", func(ctx context.Context, s *registry.Store) error {
			_, _, err := s.PutTerminal(ctx, who, t1, registry.TerminalChange{MerchantID: shop, Algorithm: &sm4, Test: &test})
			return err
		}, "10000001 terminal", 1, "terminal.change"},
		{"terminal suspended", func(ctx context.Context, s *registry.Store) error {
			_, err := s.SetTerminalState(ctx, who, t1, "suspended", "theft suspected")
			return err
		}, "10000001 terminal", 1, "terminal.state"},
		{"terminal lost gives its card up", func(ctx context.Context, s *registry.Store) error {
			_, err := s.SetTerminalState(ctx, who, t1, "lost", "stolen")
			return err
		}, "10000001 terminal", 3, "terminal.state"},
		{"new card", func(ctx context.Context, s *registry.Store) error {
			_, _, err := s.AddCard(ctx, who, psam(9))
			return err
		}, "", 1, "card.register"},
		{"card suspended", func(ctx context.Context, s *registry.Store) error {
			_, err := s.SetCardState(ctx, who, psam(1), "suspended", "check")
			return err
		}, "10000001 card", 1, "card.state"},
		{"card lost gives its terminal up", func(ctx context.Context, s *registry.Store) error {
			_, err := s.SetCardState(ctx, who, psam(1), "lost", "gone")
			return err
		}, "10000001 card", 3, "card.state"},
		{"card in no terminal", func(ctx context.Context, s *registry.Store) error {
			_, err := s.SetCardState(ctx, who, psam(3), "retired", "old")
			return err
		}, "", 1, "card.state"},
		{"bound", func(ctx context.Context, s *registry.Store) error {
			_, _, err := s.Bind(ctx, who, t2, psam(2), "first")
			return err
		}, "10000002 binding", 3, "binding.make"}, // in service, bound on both sides
		{"replaced", func(ctx context.Context, s *registry.Store) error {
			_, _, err := s.Bind(ctx, who, t1, psam(2), "worn out")
			return err
		}, "10000001 binding", 5, "binding.make"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			const events = "SELECT (SELECT count(*) FROM terminal_events) + (SELECT count(*) FROM card_events)"
			seq, had := f.number(t, "SELECT max(seq) FROM device_changes"), f.number(t, events)
			newest := f.number(t, "SELECT max(seq) FROM audit")
			for again := range 2 {
				if err := test.do(t.Context(), f.Store); err != nil {
					t.Fatal(err)
				}
				if got := strings.Join(f.changes(t, seq), ","); got != test.changes {
					t.Errorf("run %d: device changes %q, want %q", again+1, got, test.changes)
				}
				if got := f.number(t, events) - had; got != test.events {
					t.Errorf("run %d: %d events, want %d", again+1, got, test.events)
				}
				records, err := audit.List(t.Context(), f.pool, audit.Filter{After: newest})
				if err != nil || len(records) != 1 || records[0].Action != test.audit || records[0].Actor != who || records[0].Service != "posv" {
					t.Errorf("run %d: audit %+v, %v; want one %s", again+1, records, err, test.audit)
				}
			}
			if _, err := audit.Verify(t.Context(), f.pool); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRefusals: each rule refuses with its kind and a next step, and leaves no trace.
func TestRefusals(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	f.card(t, psam(3), "lost")
	bad := func(s string) *string { return &s }
	twelve := 12
	tests := []struct {
		name string
		do   func() error
		kind registry.Kind
		want string // in the text
	}{
		{"merchant number", func() error { _, _, err := f.PutMerchant(ctx, who, "1041", "x", ""); return err }, registry.Invalid, "15 letters"},
		{"merchant name", func() error { _, _, err := f.PutMerchant(ctx, who, shop, " ", ""); return err }, registry.Invalid, "name"},
		{"merchant name of two lines", func() error { _, _, err := f.PutMerchant(ctx, who, shop, "a\nb", ""); return err }, registry.Invalid, "one line"},
		{"merchant state", func() error { _, _, err := f.PutMerchant(ctx, who, shop, "x", "closed"); return err }, registry.Invalid, "active, suspended"},
		{"no such merchant", func() error { _, err := f.Merchant(ctx, "x"); return err }, registry.NotFound, "PUT /v1/merchants"},
		{"terminal number", func() error {
			_, _, err := f.PutTerminal(ctx, who, "1000000ü", registry.TerminalChange{MerchantID: shop})
			return err
		}, registry.Invalid, "8 letters"},
		{"terminal of an unknown merchant", func() error {
			_, _, err := f.PutTerminal(ctx, who, "10000009", registry.TerminalChange{MerchantID: "104110000000009"})
			return err
		}, registry.Conflict, "PUT /v1/merchants/104110000000009"},
		{"moved to an unknown merchant", func() error {
			_, _, err := f.PutTerminal(ctx, who, t1, registry.TerminalChange{MerchantID: "104110000000009"})
			return err
		}, registry.Conflict, "not registered"},
		{"algorithm", func() error {
			_, _, err := f.PutTerminal(ctx, who, t1, registry.TerminalChange{MerchantID: shop, Algorithm: bad("rot13")})
			return err
		}, registry.Invalid, "des, tdes, sm4"},
		{"profile", func() error {
			_, _, err := f.PutTerminal(ctx, who, t1, registry.TerminalChange{MerchantID: shop, Profile: bad("Big Bank")})
			return err
		}, registry.Invalid, "a-z"},
		{"MAK length", func() error {
			_, _, err := f.PutTerminal(ctx, who, t1, registry.TerminalChange{MerchantID: shop, MAKLength: &twelve})
			return err
		}, registry.Invalid, "8 or 16"},
		{"state of no terminal", func() error { _, err := f.SetTerminalState(ctx, who, "10000009", "active", "x"); return err }, registry.NotFound, "not registered"},
		{"terminal state", func() error { _, err := f.SetTerminalState(ctx, who, t1, "gone", "x"); return err }, registry.Invalid, "suspended"},
		{"state without a reason", func() error { _, err := f.SetTerminalState(ctx, who, t1, "lost", ""); return err }, registry.Invalid, "reason"},
		{"no such terminal", func() error { _, err := f.Terminal(ctx, "1"); return err }, registry.NotFound, "PUT /v1/terminals"},
		{"card number", func() error { _, _, err := f.AddCard(ctx, who, "123"); return err }, registry.Invalid, "20 digits"},
		{"no such card", func() error { _, err := f.Card(ctx, "1"); return err }, registry.NotFound, "POST /v1/cards"},
		{"state of no card", func() error { _, err := f.SetCardState(ctx, who, psam(8), "lost", "x"); return err }, registry.NotFound, "issuer card issue"},
		{"card state", func() error { _, err := f.SetCardState(ctx, who, psam(2), "eaten", "x"); return err }, registry.Invalid, "destroyed"},
		{"card back from loss", func() error { _, err := f.SetCardState(ctx, who, psam(3), "in_service", "found"); return err }, registry.Conflict, "retired, destroyed"},
		{"bound elsewhere", func() error { _, _, err := f.Bind(ctx, who, t2, psam(1), "x"); return err }, registry.Conflict, "DELETE /v1/terminals"},
		{"bind a lost card", func() error { _, _, err := f.Bind(ctx, who, t2, psam(3), "x"); return err }, registry.Conflict, "another card"},
		{"bind no card", func() error { _, _, err := f.Bind(ctx, who, t2, psam(8), "x"); return err }, registry.NotFound, "not registered"},
		{"bind no terminal", func() error { _, _, err := f.Bind(ctx, who, "10000009", psam(2), "x"); return err }, registry.NotFound, "not registered"},
		{"bind a text", func() error { _, _, err := f.Bind(ctx, who, t2, "abc", "x"); return err }, registry.Invalid, "20 digits"},
		{"long reason", func() error {
			_, _, err := f.Bind(ctx, who, t2, psam(2), strings.Repeat("长", 201))
			return err
		}, registry.Invalid, "200"},
		{"unbind an empty terminal", func() error { _, err := f.Unbind(ctx, who, t2, "x"); return err }, registry.Conflict, "no card"},
		{"unbind without a reason", func() error { _, err := f.Unbind(ctx, who, t1, ""); return err }, registry.Invalid, "reason"},
	}
	seq, head := f.number(t, "SELECT max(seq) FROM device_changes"), f.number(t, "SELECT seq FROM audit_head")
	for _, test := range tests {
		err := test.do()
		var refusal *registry.Refusal
		if !errors.As(err, &refusal) || refusal.Kind != test.kind || !strings.Contains(err.Error(), test.want) || refusal.NextStep == "" {
			t.Errorf("%s: %v, want kind %d with %q", test.name, err, test.kind, test.want)
		}
	}
	if got := f.changes(t, seq); len(got) > 0 {
		t.Errorf("refused requests told posp: %q", got)
	}
	if now := f.number(t, "SELECT seq FROM audit_head"); now != head {
		t.Errorf("refused requests left %d audit records", now-head)
	}
	// The database itself stands behind the rules: an unregistered and a suspended card.
	if _, _, err := f.AddCard(ctx, who, psam(5)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.Bind(ctx, who, t2, psam(5), ""); err == nil || !strings.Contains(err.Error(), "issuer card issue --psam "+psam(5)) {
		t.Errorf("a card without keys: %v", err)
	}
	f.card(t, psam(1), "suspended")
	if _, err := f.Unbind(ctx, who, t1, "x"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.Bind(ctx, who, t1, psam(1), ""); err == nil || !strings.Contains(err.Error(), "into service first") {
		t.Errorf("a suspended card: %v", err)
	}
	if _, err := f.SetTerminalState(ctx, who, t2, "retired", "old"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.Bind(ctx, who, t2, psam(2), ""); err == nil || !strings.Contains(err.Error(), "retired") {
		t.Errorf("a retired terminal: %v", err)
	}
	if _, _, err := f.PutTerminal(ctx, who, t2, registry.TerminalChange{MerchantID: shop, Algorithm: bad("sm4")}); err == nil || !strings.Contains(err.Error(), "retired") {
		t.Errorf("a retired terminal changes: %v", err)
	}
}

// TestHistoryIsKept: after a replacement and a loss every binding is still there, ended, and the old card is free.
func TestHistoryIsKept(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	if _, _, err := f.Bind(ctx, who, t1, psam(2), "worn out"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.Bind(ctx, who, t2, psam(1), "reused"); err != nil {
		t.Fatal(err)
	}
	f.card(t, psam(2), "lost")
	history, err := f.Bindings(ctx, t1)
	if err != nil || len(history) != 2 || history[0].PSAM != psam(2) || history[0].ValidTo == nil || history[1].PSAM != psam(1) || history[1].ValidTo == nil {
		t.Fatalf("%+v, %v", history, err)
	}
	if used, err := f.CardBindings(ctx, psam(1)); err != nil || len(used) != 2 || used[0].Terminal != t2 || used[0].ValidTo != nil {
		t.Fatalf("%+v, %v", used, err)
	}
	v, err := f.Terminal(ctx, t1)
	if err != nil || v.PSAM != "" {
		t.Fatalf("%+v, %v", v, err)
	}
	events, err := f.TerminalEvents(ctx, t1)
	if err != nil || len(events) != 5 || events[0].Event != "unbound" || events[4].Event != "registered" {
		t.Fatalf("%+v, %v", events, err)
	}
	if cards, err := f.CardEvents(ctx, psam(2)); err != nil || cards[0].Event != "unbound" || cards[1].Event != "lost" {
		t.Fatalf("%+v, %v", cards, err)
	}
}

// TestOneCardOneTerminal: many bindings of one card at the same moment leave one, and the others a conflict.
func TestOneCardOneTerminal(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const n = 8
	for i := range n {
		if _, _, err := f.PutTerminal(t.Context(), who, fmt.Sprintf("2000000%d", i), registry.TerminalChange{MerchantID: shop}); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	results := make([]error, n)
	for i := range n {
		wg.Go(func() {
			_, _, results[i] = f.Bind(t.Context(), who, fmt.Sprintf("2000000%d", i), psam(2), "race")
		})
	}
	wg.Wait()
	won := 0
	for _, err := range results {
		var refusal *registry.Refusal
		switch {
		case err == nil:
			won++
		case !errors.As(err, &refusal) || refusal.Kind != registry.Conflict:
			t.Errorf("%v", err)
		}
	}
	if won != 1 {
		t.Errorf("%d bindings of one card", won)
	}
}

// TestChangesInEveryOrderDoNotDeadlock: all kinds of change on the same rows at once end, with success or a refusal.
func TestChangesInEveryOrderDoNotDeadlock(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	work := []func(n int) error{
		func(n int) error { _, _, err := f.Bind(ctx, who, t1, psam(1+n%2), "x"); return err },
		func(n int) error { _, _, err := f.Bind(ctx, who, t2, psam(1+(n+1)%2), "x"); return err },
		func(n int) error {
			_, err := f.SetCardState(ctx, who, psam(1+n%2), []string{"suspended", "in_service"}[n/2%2], "x")
			return err
		},
		func(n int) error {
			_, _, err := f.PutMerchant(ctx, who, shop, "Shop", []string{"active", "suspended"}[n%2])
			return err
		},
		func(n int) error {
			_, err := f.SetTerminalState(ctx, who, t1, []string{"suspended", "active"}[n%2], "x")
			return err
		},
		func(int) error { _, err := f.Unbind(ctx, who, t1, "x"); return err },
	}
	var wg sync.WaitGroup
	for _, do := range work {
		wg.Go(func() {
			for n := range 12 {
				var refusal *registry.Refusal
				if err := do(n); err != nil && !errors.As(err, &refusal) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if _, err := audit.Verify(ctx, f.pool); err != nil {
		t.Error(err)
	}
}

// TestPospHearsOfAChange: the notification of the trigger carries the number of the change, as posp's follower listens to it.
func TestPospHearsOfAChange(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, f.db.URL(migrations.RolePOSP))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, "LISTEN keyward_device"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.SetTerminalState(ctx, who, t1, "suspended", "test"); err != nil {
		t.Fatal(err)
	}
	heard, err := conn.WaitForNotification(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var terminal, kind string
	if err := conn.QueryRow(ctx, "SELECT terminal_id, kind FROM device_changes WHERE seq = $1::bigint", heard.Payload).Scan(&terminal, &kind); err != nil || terminal != t1 || kind != "terminal" {
		t.Fatalf("%s: %s %s, %v", heard.Payload, terminal, kind, err)
	}
}

// signOn stores a sign-on as posp does, some time ago.
func (f *fixture) signOn(t *testing.T, terminal string, version int, state string, ago time.Duration, used bool) {
	t.Helper()
	made := time.Now().Add(-ago)
	var first *time.Time
	if used {
		first = &made
	}
	_, err := f.db.Pool(t, postgres.Superuser).Exec(t.Context(), `
INSERT INTO work_keys (terminal_id, version, state, algorithm, lmk_domain, psam_no, pik, pik_kcv, mak, mak_kcv, answer, request_digest, digest, made_at, expires_at, first_used_at)
VALUES ($1, $2, $3, 'tdes', 'test', $4, 'U00', '01234567', 'U00', '89ABCDEF', '', '', '', $5, $6, $7)`,
		terminal, version, state, psam(1), made, made.Add(5*time.Minute), first)
	if err != nil {
		t.Fatal(err)
	}
}

func TestViews(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	for _, id := range []string{"30000001", "30000002", "30000003", "30000004"} {
		if _, _, err := f.PutTerminal(ctx, who, id, registry.TerminalChange{MerchantID: shop}); err != nil {
			t.Fatal(err)
		}
	}
	f.signOn(t, t1, 1, "ended", 5*time.Hour, true)
	f.signOn(t, t1, 2, "active", time.Hour, true)
	f.signOn(t, "30000001", 1, "pending", time.Minute, false)
	f.signOn(t, "30000002", 1, "pending", time.Hour, false) // expired, though posp has not written it
	for v := range 3 {
		f.signOn(t, "30000003", v+1, "expired", time.Duration(9-v)*time.Minute, false)
		f.signOn(t, "30000004", v+1, "expired", time.Duration(9-v)*time.Minute, false)
	}
	f.signOn(t, "30000004", 4, "active", time.Minute, true) // it signed on often, but uses its keys
	want := map[string]string{
		t1: "in_use false", t2: "never false", "30000001": "pending false", "30000002": "over false", "30000003": "over true", "30000004": "in_use false",
	}
	views, err := f.Terminals(ctx, registry.Filter{})
	if err != nil || len(views) != len(want) {
		t.Fatalf("%d views, %v", len(views), err)
	}
	for _, v := range views {
		if got := fmt.Sprintf("%s %t", v.KeyState, v.Looping); got != want[v.ID] {
			t.Errorf("%s: %s, want %s", v.ID, got, want[v.ID])
		}
	}
	filters := []struct {
		name   string
		filter registry.Filter
		want   string
	}{
		{"text of a terminal", registry.Filter{Text: "3000"}, "30000001 30000002 30000003 30000004"},
		{"text of a card", registry.Filter{Text: psam(1)}, t1},
		{"text of the merchant", registry.Filter{Text: "shO", Page: registry.Page{Limit: 1}}, t1},
		{"wild cards mean themselves", registry.Filter{Text: "%"}, ""},
		{"state", registry.Filter{State: "suspended"}, ""},
		{"merchant", registry.Filter{Merchant: "x"}, ""},
		{"keys in use", registry.Filter{Keys: registry.KeysInUse}, t1 + " 30000004"},
		{"keys over", registry.Filter{Keys: registry.KeysOver}, "30000002 30000003"},
		{"never", registry.Filter{Keys: registry.NeverSignsOn}, t2},
		{"looping", registry.Filter{Looping: true}, "30000003"},
		{"second page", registry.Filter{Page: registry.Page{After: "30000002", Limit: 1}}, "30000003"},
	}
	for _, test := range filters {
		views, err := f.Terminals(ctx, test.filter)
		var ids []string
		for _, v := range views {
			ids = append(ids, v.ID)
		}
		if got := strings.Join(ids, " "); err != nil || got != test.want {
			t.Errorf("%s: %q, %v; want %q", test.name, got, err, test.want)
		}
	}
	o, err := f.Overview(ctx)
	if err != nil || o.Registered != 6 || o.Active != 6 || o.SignedOn != 3 || o.Never != 1 || o.Looping != 1 {
		t.Errorf("%+v, %v", o, err)
	}
	if o.SignOns[23] != 8 || o.SignOns[22] != 2 || o.SignOns[18] != 1 {
		t.Errorf("chart %v", o.SignOns)
	}
	signOns, err := f.SignOns(ctx, "30000002")
	if err != nil || len(signOns) != 1 || signOns[0].State != "expired" || signOns[0].MAKKCV != "89ABCDEF" {
		t.Errorf("%+v, %v", signOns, err)
	}
	cards, err := f.Cards(ctx, "personalised", registry.Page{})
	if err != nil || len(cards) != 2 || cards[0].PSAM != psam(2) {
		t.Errorf("%+v, %v", cards, err)
	}
	if merchants, err := f.Merchants(ctx, registry.Page{}); err != nil || len(merchants) != 1 {
		t.Errorf("%+v, %v", merchants, err)
	}
}
