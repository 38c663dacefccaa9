package keystore_test

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyward/keyward/internal/keystore"
	"github.com/keyward/keyward/internal/order"
	"github.com/keyward/keyward/internal/pgtest"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/migrations"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const (
	card   = "60000000000000000001"
	second = "60000000000000000002"
)

type fixture struct {
	*keystore.Store
	pool *pgxpool.Pool
	root keystore.Key
}

func open(t *testing.T) fixture {
	t.Helper()
	pool := pgtest.New(t).Pool(t, migrations.RoleKeys)
	f := fixture{Store: keystore.New(pool), pool: pool}
	var err error
	f.root, err = f.Import(t.Context(), "PSAM-ROOT", wrapped(keys.Root, "08D7B4FB629D0885"), "ceremony")
	must(t, err)
	return f
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v, want %v", err, want)
	}
}

func wrapped(u keys.Usage, kcv keys.KCV) keys.Wrapped {
	return keys.Wrapped{Usage: u, Algorithm: keys.TDES, Version: 1, Domain: "dev", Cryptogram: "U0123456789ABCDEF0123456789ABCDEF", KCV: kcv}
}

func (f fixture) intents(psam string) []keystore.Intent {
	return []keystore.Intent{
		{Name: keystore.CardName(psam), Usage: keys.CardControl, Parent: f.root, Factors: []string{psam[4:]}},
		{Name: keystore.AppName(psam), Usage: keys.CardControl, Parent: f.root, Factors: []string{psam[4:]}},
		{Name: keystore.CardName(psam), Usage: keys.TerminalMaster, Parent: f.root, Factors: []string{psam[4:]}},
	}
}

func newOrder(t *testing.T, n, count int) (order.Order, order.Signed) {
	t.Helper()
	o := order.Order{
		ID: fmt.Sprintf("0e7f6f5a-7f43-4d55-9d3c-%012d", n), PSAMFrom: card, Count: count, Algorithms: []keys.Algorithm{keys.TDES},
		ExpiresAt: time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC), Approvers: []string{"alice", "bob"}, Author: "alice",
	}
	s, err := o.Sign(ed25519.NewKeyFromSeed(make([]byte, 32)))
	must(t, err)
	return o, s
}

func (f fixture) count(t *testing.T, sql string, args ...any) (n int) {
	t.Helper()
	must(t, f.pool.QueryRow(t.Context(), sql, args...).Scan(&n))
	return n
}

func TestAcceptAndActivate(t *testing.T) {
	t.Parallel()
	f := open(t)
	o, signed := newOrder(t, 1, 20)
	made, err := f.Accept(t.Context(), o, signed, card, f.intents(card), "issuer")
	must(t, err)
	if len(made) != 3 || made[2].Usage != keys.TerminalMaster || made[2].State != keys.Intended || made[2].Parent != f.root.ID || !made[2].IsZero() {
		t.Fatalf("made %v", made)
	}
	again, err := f.Accept(t.Context(), o, signed, card, f.intents(card), "issuer")
	must(t, err)
	if again[0].ID != made[0].ID || again[1].ID != made[1].ID || again[2].ID != made[2].ID {
		t.Error("a repetition made other keys")
	}
	k, err := f.Activate(t.Context(), made[2].ID, wrapped(keys.TerminalMaster, "AAAAAAAAAAAAAAAA"), "issuer")
	must(t, err)
	if k.State != keys.Active || k.KCV != "AAAAAAAAAAAAAAAA" || k.Cryptogram == "" {
		t.Fatalf("activated %+v", k)
	}
	k, err = f.Activate(t.Context(), made[2].ID, wrapped(keys.TerminalMaster, "AAAAAAAAAAAAAAAA"), "issuer")
	must(t, err)
	_, err = f.Activate(t.Context(), made[2].ID, wrapped(keys.TerminalMaster, "BBBBBBBBBBBBBBBB"), "issuer")
	wantErr(t, err, keystore.ErrCheckValue)
	if now, err := f.Get(t.Context(), k.ID); err != nil || now.KCV != k.KCV || now.Cryptogram != k.Cryptogram {
		t.Errorf("the refused key changed the stored one: %v %v", now, err)
	}
	if n := f.count(t, `SELECT count(*) FROM key_events WHERE key_id = $1 AND event = 'kcv_mismatch'`, k.ID); n != 1 {
		t.Errorf("%d alarms in the events, want 1", n)
	}
	if n := f.count(t, `SELECT count(*) FROM key_events WHERE key_id = $1 AND event IN ('intended', 'derived')`, k.ID); n != 2 {
		t.Errorf("%d events, want 2", n)
	}
	if n := f.count(t, `SELECT count(*) FROM audit WHERE action = 'key.derived' AND service = 'keys'`); n != 1 {
		t.Errorf("%d audit records, want 1", n)
	}
	of, err := f.OfCard(t.Context(), card)
	if err != nil || len(of) != 3 {
		t.Errorf("card has %d keys: %v", len(of), err)
	}
	for name, wrong := range map[string]keys.Wrapped{
		"usage": wrapped(keys.TerminalMaster, "CCCCCCCC"), "nothing": {Usage: keys.CardControl, Algorithm: keys.TDES, Domain: "dev"},
		"domain that is none": func() keys.Wrapped { w := wrapped(keys.CardControl, "CCCCCCCC"); w.Domain = ""; return w }(),
	} {
		if _, err := f.Activate(t.Context(), made[0].ID, wrong, "issuer"); err == nil {
			t.Errorf("activated with another %s", name)
		}
	}
	// The root key may have moved to another LMK domain since the key was intended.
	moved := wrapped(keys.CardControl, "CCCCCCCC")
	moved.Domain = "dev-2"
	if k, err := f.Activate(t.Context(), made[0].ID, moved, "issuer"); err != nil || k.Domain != "dev-2" {
		t.Errorf("activated as %v: %v", k, err)
	}
	if k, err := f.Get(t.Context(), made[0].ID); err != nil || k.Domain != "dev-2" {
		t.Errorf("stored as %v: %v", k, err)
	}
}

// TestTwin: the same key under another LMK is a twin beside the one that works, and goes with it.
func TestTwin(t *testing.T) {
	t.Parallel()
	f := open(t)
	other := wrapped(keys.Root, "08D7B4FB629D0885")
	other.Domain, other.Cryptogram = "dev-2", "S1"
	for range 2 {
		k, err := f.Import(t.Context(), "PSAM-ROOT", other, "ceremony")
		if err != nil || k.Domain != "dev-2" || k.ID != f.root.ID {
			t.Fatalf("imported %v: %v", k, err)
		}
	}
	wrong := other
	wrong.KCV = "AAAAAAAAAAAAAAAA"
	_, err := f.Import(t.Context(), "PSAM-ROOT", wrong, "ceremony")
	wantErr(t, err, keystore.ErrExists)
	for domain, want := range map[string]string{"dev": f.root.Cryptogram, "dev-2": "S1"} {
		if k, err := f.InDomain(t.Context(), f.root, domain); err != nil || k.Cryptogram != want || k.Domain != domain {
			t.Errorf("in %s: %v, %v", domain, k, err)
		}
	}
	_, err = f.InDomain(t.Context(), f.root, "dev-3")
	wantErr(t, err, keystore.ErrNotFound)
	if n := f.count(t, `SELECT count(*) FROM key_events WHERE event = 'twin_imported'`); n != 1 {
		t.Errorf("%d events", n)
	}
	must(t, f.Move(t.Context(), f.root.ID, keys.Destroyed, "destroyed", "test", nil))
	_, err = f.InDomain(t.Context(), f.root, "dev-2")
	wantErr(t, err, keystore.ErrNotFound)
}

func TestOrderIsUsedUp(t *testing.T) {
	t.Parallel()
	f := open(t)
	o, signed := newOrder(t, 1, 2)
	for _, psam := range []string{card, second, card, second} {
		_, err := f.Accept(t.Context(), o, signed, psam, f.intents(psam), "issuer")
		must(t, err)
	}
	_, err := f.Accept(t.Context(), o, signed, "60000000000000000003", f.intents("60000000000000000003"), "issuer")
	if err == nil {
		t.Error("a card beyond the range was accepted")
	}
	if _, err := f.Accept(t.Context(), o, signed, card, nil, "issuer"); err == nil {
		t.Error("accepted without intents")
	}
	changed, changedSigned := newOrder(t, 1, 3)
	_, err = f.Accept(t.Context(), changed, changedSigned, card, f.intents(card), "issuer")
	wantErr(t, err, keystore.ErrOrderChanged)
	// A forged place of a card beyond the range still counts.
	_, err = f.pool.Exec(t.Context(), `INSERT INTO issue_order_cards (order_id, psam_no, key_id) VALUES ($1, '70000000000000000000', $2)`, insertOrder(t, f, 2, 1), f.root.ID)
	must(t, err)
	o, signed = newOrder(t, 2, 1)
	_, err = f.Accept(t.Context(), o, signed, card, f.intents(card), "issuer")
	wantErr(t, err, keystore.ErrOrderUsedUp)
}

// insertOrder stores an order as Accept does.
func insertOrder(t *testing.T, f fixture, n, count int) string {
	t.Helper()
	o, signed := newOrder(t, n, count)
	_, err := f.pool.Exec(t.Context(), `INSERT INTO issue_orders (order_id, psam_from, count, algorithms, expires_at, approvers, signature, document)
		VALUES ($1, $2, $3, '{tdes}', $4, $5, $6, $7)`, o.ID, o.PSAMFrom, o.Count, o.ExpiresAt, o.Approvers, signed.Signature, signed.Document)
	must(t, err)
	return o.ID
}

// Many callers at once: each card gets one set of keys and one place, and no more places than the order has.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	f := open(t)
	const cards, callers = 4, 3
	o, signed := newOrder(t, 1, cards)
	var wg sync.WaitGroup
	var failed atomic.Int32
	for i := range cards * callers {
		psam := fmt.Sprintf("6%019d", 1+i%cards)
		wg.Go(func() {
			made, err := f.Accept(t.Context(), o, signed, psam, f.intents(psam), "issuer")
			if err == nil {
				_, err = f.Activate(t.Context(), made[2].ID, wrapped(keys.TerminalMaster, "AAAAAAAAAAAAAAAA"), "issuer")
			}
			if err != nil {
				failed.Add(1)
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := f.count(t, `SELECT count(*) FROM issue_order_cards`); n != cards {
		t.Errorf("%d places used, want %d", n, cards)
	}
	if n := f.count(t, `SELECT count(*) FROM keys WHERE name LIKE 'PSAM:%'`); n != 3*cards {
		t.Errorf("%d keys, want %d", n, 3*cards)
	}
	if n := f.count(t, `SELECT count(*) FROM key_events WHERE event = 'derived'`); n != cards {
		t.Errorf("%d derivations recorded, want %d", n, cards)
	}
}

func TestMoves(t *testing.T) {
	t.Parallel()
	f := open(t)
	o, signed := newOrder(t, 1, 2)
	made, err := f.Accept(t.Context(), o, signed, card, f.intents(card), "issuer")
	must(t, err)
	id := made[2].ID
	wantErr(t, f.Move(t.Context(), id, keys.Suspended, "suspended", "alice", nil), keystore.ErrState)
	wantErr(t, f.Move(t.Context(), id, keys.Active, "resumed", "alice", nil), keystore.ErrState)
	must(t, f.Move(t.Context(), id, keys.Failed, "failed", "keys", keystore.Detail{"cause": "device"}))
	again, err := f.Accept(t.Context(), o, signed, card, f.intents(card), "issuer")
	must(t, err)
	if again[2].ID != id || again[2].State != keys.Intended {
		t.Fatalf("a failed key is not intended again: %+v", again[2])
	}
	_, err = f.Activate(t.Context(), id, wrapped(keys.TerminalMaster, "AAAAAAAAAAAAAAAA"), "issuer")
	must(t, err)
	must(t, f.Move(t.Context(), id, keys.Suspended, "suspended", "alice", nil))
	_, err = f.Accept(t.Context(), o, signed, card, f.intents(card), "issuer")
	wantErr(t, err, keystore.ErrState)
	wantErr(t, f.RecordExport(t.Context(), id, o.ID, "issuer", 9, nil), keystore.ErrState)
	must(t, f.Move(t.Context(), id, keys.Active, "resumed", "alice", nil))
	must(t, f.Move(t.Context(), id, keys.Destroyed, "destroyed", "alice", nil))
	if k, err := f.Get(t.Context(), id); err != nil || !k.IsZero() {
		t.Errorf("a destroyed key keeps its cryptogram: %v", err)
	}
	_, err = f.Accept(t.Context(), o, signed, card, f.intents(card), "issuer")
	wantErr(t, err, keystore.ErrState)
	wantErr(t, f.Move(t.Context(), 999, keys.Retired, "retired", "alice", nil), keystore.ErrNotFound)
	_, err = f.Newest(t.Context(), "PSAM-NONE", keys.Root, keys.TDES)
	wantErr(t, err, keystore.ErrNotFound)
}

func TestExportsAreCounted(t *testing.T) {
	t.Parallel()
	f := open(t)
	o, signed := newOrder(t, 1, 1)
	made, err := f.Accept(t.Context(), o, signed, card, f.intents(card), "issuer")
	must(t, err)
	id := made[2].ID
	wantErr(t, f.RecordExport(t.Context(), id, o.ID, "issuer", 3, nil), keystore.ErrState)
	_, err = f.Activate(t.Context(), id, wrapped(keys.TerminalMaster, "AAAAAAAAAAAAAAAA"), "issuer")
	must(t, err)
	var wg sync.WaitGroup
	var done, refused atomic.Int32
	for range 8 {
		wg.Go(func() {
			switch err := f.RecordExport(t.Context(), id, o.ID, "issuer", 3, keystore.Detail{"step": "master"}); {
			case err == nil:
				done.Add(1)
			case errors.Is(err, keystore.ErrOrderUsedUp):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if done.Load() != 3 || refused.Load() != 5 {
		t.Errorf("%d exports, %d refused, want 3 and 5", done.Load(), refused.Load())
	}
	must(t, f.RecordExport(t.Context(), id, "0e7f6f5a-7f43-4d55-9d3c-999999999999", "issuer", 3, nil)) // another order has its own count
}

func TestImport(t *testing.T) {
	t.Parallel()
	f := open(t)
	same, err := f.Import(t.Context(), "PSAM-ROOT", wrapped(keys.Root, "08D7B4FB629D0885"), "ceremony")
	if err != nil || same.ID != f.root.ID {
		t.Errorf("the same key again: %v, key %d, want %d", err, same.ID, f.root.ID)
	}
	_, err = f.Import(t.Context(), "PSAM-ROOT", wrapped(keys.Root, "1111111111111111"), "ceremony")
	wantErr(t, err, keystore.ErrExists)
	v2 := wrapped(keys.Root, "1111111111111111")
	v2.Version = 2
	_, err = f.Import(t.Context(), "PSAM-ROOT", v2, "ceremony")
	must(t, err)
	if k, err := f.Newest(t.Context(), "PSAM-ROOT", keys.Root, keys.TDES); err != nil || k.Version != 2 {
		t.Errorf("newest is version %d: %v", k.Version, err)
	}
	for _, bad := range []keys.Wrapped{{}, {Usage: keys.Root, Algorithm: keys.TDES, Domain: "dev", Version: 1, Cryptogram: "U"}} {
		if _, err := f.Import(t.Context(), "X", bad, "ceremony"); err == nil {
			t.Errorf("imported %v", bad)
		}
	}
}
