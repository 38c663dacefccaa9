package rewrap_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"

	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/internal/keystore"
	"github.com/keyward/keyward/internal/pgtest"
	"github.com/keyward/keyward/internal/postgres"
	"github.com/keyward/keyward/internal/rewrap"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/migrations"
)

const (
	oldLMK = "old"
	newLMK = "new"
	// patience bounds every wait of a test.
	patience = 40 * time.Second
)

// device is an HSM that holds both LMKs and keeps clear keys in its cryptograms: "domain/clear".
type device struct {
	mu       sync.Mutex
	away     error             // answer to everything
	spoil    map[string]string // clear key → what translating it gives instead
	refuse   map[string]error  // clear key → answer to translating it
	calls    map[string]int    // by command
	priority map[command.Priority]int
	after    func(what string, n int) // called outside the lock after the n-th command of a kind
}

func newDevice() *device {
	return &device{spoil: map[string]string{}, refuse: map[string]error{}, calls: map[string]int{}, priority: map[command.Priority]int{}}
}

func cryptogram(domain, clear string) string { return domain + "/" + clear }

func check(clear string) keys.KCV {
	sum := sha256.Sum256([]byte(clear))
	return keys.KCV(strings.ToUpper(hex.EncodeToString(sum[:8])))
}

func (d *device) set(do func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	do()
}

// open counts a command and gives the clear key.
func (d *device) open(ctx context.Context, what string, k keys.Wrapped) (string, error) {
	d.mu.Lock()
	d.calls[what]++
	n := d.calls[what]
	d.priority[command.PriorityOf(ctx)]++
	away, after := d.away, d.after
	d.mu.Unlock()
	if after != nil {
		after(what, n)
	}
	if away != nil {
		return "", away
	}
	domain, clear, ok := strings.Cut(k.Cryptogram, "/")
	if !ok || domain != k.Domain {
		return "", &command.Error{Class: command.CallerFault, Command: what, Code: "10"}
	}
	return clear, ctx.Err()
}

func (d *device) CheckValue(ctx context.Context, k keys.Wrapped) (keys.KCV, error) {
	clear, err := d.open(ctx, "BU", k)
	if err != nil {
		return "", err
	}
	return check(clear), nil
}

func (d *device) TranslateLMK(ctx context.Context, k keys.Wrapped, to string) (keys.Wrapped, error) {
	clear, err := d.open(ctx, "BW", k)
	if err != nil {
		return keys.Wrapped{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.refuse[clear]; err != nil {
		return keys.Wrapped{}, err
	}
	if other, ok := d.spoil[clear]; ok {
		clear = other
	}
	k.Domain, k.Cryptogram = to, cryptogram(to, clear)
	return k, nil
}

func (d *device) ExportUnderZMK(ctx context.Context, zmk, k keys.Wrapped) (command.ZoneKey, error) {
	clear, err := d.open(ctx, "A8", k)
	if err != nil {
		return command.ZoneKey{}, err
	}
	zone, err := d.open(ctx, "A8", zmk)
	if err != nil || zmk.Domain != k.Domain {
		return command.ZoneKey{}, errors.Join(err, errors.New("domains differ"))
	}
	return command.ZoneKey{Usage: k.Usage, Algorithm: k.Algorithm, Cipher: zone + "|" + clear, KCV: check(clear)}, nil
}

func (d *device) ImportUnderZMK(ctx context.Context, zmk keys.Wrapped, k command.ZoneKey) (keys.Wrapped, error) {
	zone, err := d.open(ctx, "A6", zmk)
	if err != nil {
		return keys.Wrapped{}, err
	}
	under, clear, _ := strings.Cut(k.Cipher, "|")
	if under != zone {
		return keys.Wrapped{}, &command.Error{Class: command.CallerFault, Command: "A6", Code: "10"}
	}
	return keys.Wrapped{Usage: k.Usage, Algorithm: k.Algorithm, Domain: zmk.Domain, Cryptogram: cryptogram(zmk.Domain, clear), KCV: k.KCV}, nil
}

// fixture is a database with keys, a device and an engine.
type fixture struct {
	t      *testing.T
	db     *pgtest.DB
	admin  *pgxpool.Pool
	pool   *pgxpool.Pool // as keyward_keys
	store  *keystore.Store
	device *device
	log    bytes.Buffer
	engine *rewrap.Engine
	stop   func()
}

func open(t *testing.T, cards int) *fixture {
	t.Helper()
	f := &fixture{t: t, db: pgtest.New(t), device: newDevice()}
	f.admin, f.pool = f.db.Pool(t, postgres.Superuser), f.db.Pool(t, migrations.RoleKeys)
	f.store = keystore.New(f.pool)
	f.importKey("PSAM-ROOT", keys.Root, oldLMK)
	for n := 1; n <= cards; n++ {
		f.addCard(n, oldLMK)
	}
	f.start()
	return f
}

// start runs an engine on the database; a second one stands for the process after a crash.
func (f *fixture) start() {
	f.t.Helper()
	e, err := rewrap.New(rewrap.Config{
		Pool: f.pool, Check: f.device, Translate: f.device, Exchange: f.device, Log: slog.New(slog.NewTextHandler(&lockedWriter{w: &f.log}, nil)),
		Tick: 20 * time.Millisecond, Watch: 20 * time.Millisecond,
	})
	f.must(err)
	f.must(e.Start(f.t.Context()))
	f.engine = e
	f.stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		f.must(e.Stop(ctx))
	})
	f.t.Cleanup(f.stop)
}

type lockedWriter struct {
	mu sync.Mutex
	w  *bytes.Buffer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) exec(sql string, args ...any) {
	f.t.Helper()
	_, err := f.admin.Exec(f.t.Context(), sql, args...)
	f.must(err)
}

func (f *fixture) count(sql string, args ...any) (n int) {
	f.t.Helper()
	f.must(f.admin.QueryRow(f.t.Context(), `SELECT count(*) FROM `+sql, args...).Scan(&n))
	return n
}

func (f *fixture) importKey(name string, usage keys.Usage, domain string) keystore.Key {
	f.t.Helper()
	k, err := f.store.Import(f.t.Context(), name, keys.Wrapped{
		Usage: usage, Algorithm: keys.TDES, Version: 1, Domain: domain, Cryptogram: cryptogram(domain, name), KCV: check(name),
	}, "ceremony")
	f.must(err)
	return k
}

func cardNo(n int) string { return fmt.Sprintf("6000000000000000%04d", n) }

// addCard stores a card with its master key and a terminal that it sits in.
func (f *fixture) addCard(n int, domain string) {
	f.t.Helper()
	card, terminal := cardNo(n), fmt.Sprintf("1000%04d", n)
	f.importKey("PSAM:"+card, keys.TerminalMaster, domain)
	f.exec(`INSERT INTO merchants (merchant_id, name, state) VALUES ('104110000000001', 'test', 'active') ON CONFLICT DO NOTHING`)
	f.exec(`INSERT INTO terminals (terminal_id, merchant_id) VALUES ($1, '104110000000001')`, terminal)
	f.exec(`INSERT INTO cards (psam_no, state) VALUES ($1, 'in_service')`, card)
	f.exec(`INSERT INTO bindings (psam_no, terminal_id, actor) VALUES ($1, $2, 'test')`, card, terminal)
}

func (f *fixture) begin(rate int) int64 {
	f.t.Helper()
	j, err := f.engine.Begin(f.t.Context(), rewrap.Plan{From: oldLMK, To: newLMK, Method: rewrap.Translate, Rate: rate}, "alice")
	f.must(err)
	return j.ID
}

func (f *fixture) status(id int64) rewrap.Status {
	f.t.Helper()
	st, err := f.engine.Status(f.t.Context(), id)
	f.must(err)
	return st
}

// await polls until the job is as wanted: the database has no signal for it.
func (f *fixture) await(id int64, what string, ok func(rewrap.Status) bool) rewrap.Status {
	f.t.Helper()
	end := time.Now().Add(patience)
	for {
		st := f.status(id)
		if ok(st) {
			return st
		}
		if time.Now().After(end) {
			f.t.Fatalf("waited in vain for %s: %+v\n%s", what, st, f.log.String())
		}
		time.Sleep(5 * time.Millisecond) // polling
	}
}

func (f *fixture) awaitState(id int64, want rewrap.State) rewrap.Status {
	f.t.Helper()
	return f.await(id, string(want), func(st rewrap.Status) bool { return st.State == want })
}

// everywhere checks that each key is intact wherever it is: both cryptograms open to the key of the name.
func (f *fixture) everywhere() {
	f.t.Helper()
	bad := f.count(`keys WHERE cryptogram <> lmk_domain || '/' || name`) +
		f.count(`key_twins t JOIN keys k USING (key_id) WHERE t.cryptogram IS NOT NULL AND t.cryptogram <> t.lmk_domain || '/' || k.name`) +
		f.count(`key_twins t JOIN keys k USING (key_id) WHERE t.cryptogram IS NOT NULL AND t.lmk_domain = k.lmk_domain`)
	if bad > 0 {
		f.t.Errorf("%d keys or twins are not what they should be", bad)
	}
}

func refused(t *testing.T, err error, word string) {
	t.Helper()
	r, ok := errors.AsType[*rewrap.Refusal](err)
	if !ok || !strings.Contains(r.Error(), word) || r.Next == "" {
		t.Errorf("refused with %v, want %q and a next step", err, word)
	}
}

// TestWholeMove: copy, switch in shares, back, switch, retire, with the proof at the end.
func TestWholeMove(t *testing.T) {
	t.Parallel()
	const cards = 30
	f := open(t, cards)
	id := f.begin(1000)
	st := f.awaitState(id, rewrap.Copied)
	if p := st.Progress; p.Total != cards+1 || p.Done != cards+1 || p.Left+p.Differences+p.Switched+p.Native != 0 || p.Rate <= 0 || p.ETA != "" {
		t.Errorf("progress after the copy: %+v", p)
	}
	if n := f.count(`keys WHERE lmk_domain = 'new'`); n != 0 {
		t.Errorf("%d keys changed over without an order", n)
	}
	f.everywhere()

	_, err := f.engine.Retire(t.Context(), id, "alice")
	refused(t, err, "cannot become retiring")

	// One card by name, then a share, then all.
	_, err = f.engine.Switch(t.Context(), id, rewrap.Selection{Cards: []string{cardNo(7)}}, "bob")
	f.must(err)
	st = f.awaitState(id, rewrap.Switched)
	if n := f.count(`keys WHERE lmk_domain = 'new' AND name = $1`, "PSAM:"+cardNo(7)); n != 1 || st.Progress.Switched != 1 {
		t.Errorf("after the switch of a card: %+v", st.Progress)
	}
	_, err = f.engine.Switch(t.Context(), id, rewrap.Selection{Share: 40}, "bob")
	f.must(err)
	st = f.awaitState(id, rewrap.Switched)
	if n := st.Progress.Switched; n < 3 || n > 25 {
		t.Errorf("a share of 40 percent switched %d of %d", n, cards)
	}
	f.everywhere()
	_, err = f.engine.Retire(t.Context(), id, "bob")
	refused(t, err, "still work in domain old")
	_, err = f.engine.Switch(t.Context(), id, rewrap.Selection{Share: 100}, "bob")
	f.must(err)
	st = f.awaitState(id, rewrap.Switched)
	if st.Progress.Switched != cards+1 || f.count(`keys WHERE lmk_domain = 'old'`) != 0 {
		t.Errorf("after the whole switch: %+v", st.Progress)
	}
	f.everywhere()

	_, err = f.engine.Back(t.Context(), id, "carol")
	f.must(err)
	st = f.awaitState(id, rewrap.Copied)
	if st.Progress.Switched != 0 || st.Share != 0 || f.count(`keys WHERE lmk_domain = 'new'`) != 0 {
		t.Errorf("after the way back: %+v", st)
	}
	f.everywhere()

	_, err = f.engine.Switch(t.Context(), id, rewrap.Selection{Share: 100}, "bob")
	f.must(err)
	f.awaitState(id, rewrap.Switched)
	_, err = f.engine.Retire(t.Context(), id, "bob")
	f.must(err)
	st = f.awaitState(id, rewrap.Retired)
	if f.count(`key_twins WHERE cryptogram IS NOT NULL`) != 0 || st.EndedAt == nil || st.OrderedBy != "bob" || st.StartedBy != "alice" {
		t.Errorf("after the end: %+v", st)
	}

	// The proof outlives the cryptograms, page by page.
	var lines []rewrap.Proof
	for after := int64(0); ; {
		page, err := f.engine.Report(t.Context(), id, after, 7)
		f.must(err)
		lines = append(lines, page.Lines...)
		if after = page.Next; after == 0 {
			break
		}
	}
	if len(lines) != cards+1 {
		t.Fatalf("%d lines of proof", len(lines))
	}
	for _, l := range lines {
		if want := check(l.Name); !l.Good || l.Before != want || l.After != want || l.ErasedAt == nil {
			t.Errorf("proof %+v, want %s", l, want)
		}
	}
	// Every step is in the audit, every key's way in its events.
	for _, action := range []string{"planned", "copying", "copied", "switching", "switched", "returning", "retiring", "retired"} {
		if f.count(`audit WHERE action = $1 AND object = $2`, "rewrap."+action, fmt.Sprintf("rewrap:%d", id)) == 0 {
			t.Errorf("no audit record of %s", action)
		}
	}
	for event, want := range map[string]int{"rewrap_copied": cards + 1, "rewrap_switched": 2 * (cards + 1), "rewrap_returned": cards + 1, "rewrap_erased": cards + 1} {
		if n := f.count(`key_events WHERE event = $1`, event); n != want {
			t.Errorf("%d events %s, want %d", n, event, want)
		}
	}
	// posp was told of each change of a master key.
	if n := f.count(`device_changes WHERE kind = 'master key'`); n != 3*cards {
		t.Errorf("posp was told %d times, want %d", n, 3*cards)
	}
	if f.device.priority[command.Background] < f.device.calls["BW"] || strings.Contains(f.log.String(), "old/") {
		t.Errorf("priorities %v, or a cryptogram in the log", f.device.priority)
	}
}

// TestDifferences: a key that changes under way and one that the device refuses stop nothing else, and keep all from switching.
func TestDifferences(t *testing.T) {
	t.Parallel()
	f := open(t, 8)
	bad, refusedKey, stale := "PSAM:"+cardNo(3), "PSAM:"+cardNo(5), "PSAM:"+cardNo(6)
	f.device.set(func() {
		f.device.spoil[bad] = "another key"
		f.device.refuse[refusedKey] = &command.Error{Class: command.CallerFault, Command: "BW", Code: "10", Member: "hsm1"}
	})
	f.exec(`UPDATE keys SET kcv = '0123456789ABCDEF' WHERE name = $1`, stale)
	id := f.begin(1000)
	st := f.awaitState(id, rewrap.Copied)
	if p := st.Progress; p.Done != 6 || p.Differences != 3 || p.Left != 0 {
		t.Errorf("progress %+v", p)
	}
	if len(st.SwitchWaits) != 1 || st.SwitchWaits[0].Count != 3 || !strings.Contains(st.SwitchWaits[0].Examples[0], bad) {
		t.Errorf("switch waits for %+v", st.SwitchWaits)
	}
	_, err := f.engine.Switch(t.Context(), id, rewrap.Selection{Share: 100}, "bob")
	refused(t, err, "keys differ")
	page, err := f.engine.Report(t.Context(), id, 0, 0)
	f.must(err)
	reasons := map[string]string{}
	for _, l := range page.Lines {
		if l.Good == (l.Reason != "") {
			t.Errorf("line %+v", l)
		}
		reasons[l.Name] = l.Reason
	}
	for name, word := range map[string]string{bad: "in the new domain, stored is", refusedKey: "error 10", stale: "in the old domain, stored is 0123456789ABCDEF"} {
		if !strings.Contains(reasons[name], word) {
			t.Errorf("%s: %q, want %q", name, reasons[name], word)
		}
	}
	if !strings.Contains(f.log.String(), "alarm: a key cannot be moved with proof") {
		t.Error("no alarm")
	}

	// The causes are mended: the same keys are tried again, and the switch is free.
	f.device.set(func() { clear(f.device.spoil); clear(f.device.refuse) })
	f.exec(`UPDATE keys SET kcv = $2 WHERE name = $1`, stale, string(check(stale)))
	_, err = f.engine.Resume(t.Context(), id, 0, "bob")
	f.must(err)
	f.await(id, "nine proven keys", func(st rewrap.Status) bool { return st.State == rewrap.Copied && st.Progress.Done == 9 })
	_, err = f.engine.Switch(t.Context(), id, rewrap.Selection{Share: 100}, "bob")
	f.must(err)
	f.awaitState(id, rewrap.Switched)
	f.everywhere()
}
