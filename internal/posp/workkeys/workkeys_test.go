package workkeys_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyward/keyward/internal/pgtest"
	"github.com/keyward/keyward/internal/posp/workkeys"
	"github.com/keyward/keyward/internal/postgres"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/workset"
	"github.com/keyward/keyward/migrations"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const terminal = "10000001"

func newSet(n byte, batch string) *workset.Set {
	now := time.Now().UTC().Truncate(time.Microsecond)
	key := func(u keys.Usage, cryptogram string) keys.Wrapped {
		return keys.Wrapped{Usage: u, Algorithm: keys.TDES, Domain: "test", Cryptogram: cryptogram, KCV: "0123456789ABCDEF"}
	}
	mak := key(keys.MACKey, fmt.Sprintf("Z%016X", int(n)))
	mak.Algorithm = keys.DES
	return &workset.Set{
		PSAM: "60000000000000000001", MasterKey: 7, Batch: batch, Answer: []byte{1, 2, n}, Request: [32]byte{n}, MadeAt: now, ExpiresAt: now.Add(workset.PendingLife),
		PIK: key(keys.PINKey, fmt.Sprintf("U%032X", int(n))), MAK: mak, TDK: key(keys.TrackKey, fmt.Sprintf("U%032X", 100+int(n))),
	}
}

func start(t *testing.T, pool *pgxpool.Pool) *workkeys.Keeper {
	t.Helper()
	k := workkeys.New(pool, slog.New(slog.DiscardHandler), time.Now)
	if err := k.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, k) })
	return k
}

func stop(t *testing.T, k *workkeys.Keeper) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := k.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func commit(t *testing.T, k *workkeys.Keeper, n byte, batch string) *workset.Set {
	t.Helper()
	s := newSet(n, batch)
	if err := k.Commit(t.Context(), terminal, s); err != nil {
		t.Fatal(err)
	}
	return s
}

func reload(t *testing.T, k *workkeys.Keeper) {
	t.Helper()
	if err := k.Reload(t.Context(), terminal); err != nil {
		t.Fatal(err)
	}
}

// show lists the live sets in the order of trial: state and version.
func show(k *workkeys.Keeper) (out string) {
	for _, s := range k.Table.Load(terminal).Candidates(time.Now()) {
		out += fmt.Sprintf("%s%d ", s.State[:1], s.Version)
	}
	return out
}

func want(t *testing.T, k *workkeys.Keeper, sets string) {
	t.Helper()
	if got := show(k); got != sets {
		t.Fatalf("sets %q, want %q", got, sets)
	}
}

// TestMACKeyAlgorithm: a single-length MAK is known as such when it is restored: by the row, and in rows of older programs by its length.
func TestMACKeyAlgorithm(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	pool := db.Pool(t, migrations.RolePOSP)
	for n, test := range []struct {
		cryptogram string
		algorithm  keys.Algorithm
		old        bool
	}{
		{"S" + strings.Repeat("0", 112), keys.DES, false}, {"S" + strings.Repeat("0", 112), keys.TDES, false},
		{"Z" + strings.Repeat("0", 16), keys.DES, true}, {"U" + strings.Repeat("0", 32), keys.TDES, true},
	} {
		k := start(t, pool)
		s := newSet(byte(n+1), "000001")
		s.MAK.Cryptogram, s.MAK.Algorithm = test.cryptogram, test.algorithm
		if err := k.Commit(t.Context(), terminal, s); err != nil {
			t.Fatal(err)
		}
		if test.old {
			if _, err := pool.Exec(t.Context(), "UPDATE work_keys SET mak_algorithm = NULL"); err != nil {
				t.Fatal(err)
			}
		}
		stop(t, k)
		k = start(t, pool)
		if got := k.Table.Load(terminal).Same([32]byte{byte(n + 1)}, time.Now()); got == nil || got.MAK.Algorithm != test.algorithm || got.PIK.Algorithm != keys.TDES {
			t.Errorf("%d: restored %+v", n, got)
		}
		k.SignOff(terminal)
		stop(t, k)
	}
}

func TestLifeAndRestore(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t).Pool(t, migrations.RolePOSP)
	k := start(t, pool)
	if k.Batch(terminal) != "" {
		t.Error("a batch number before the first sign-on")
	}
	again := func(sets string) {
		t.Helper()
		want(t, k, sets)
		stop(t, k)
		k = start(t, pool)
		want(t, k, sets)
	}
	first := commit(t, k, 1, "000001")
	again("p1 ")
	got := k.Table.Load(terminal).Same([32]byte{1}, time.Now())
	if got == nil || got.PIK.Cryptogram != first.PIK.Cryptogram || got.MAK.Cryptogram != first.MAK.Cryptogram || got.TDK.Cryptogram != first.TDK.Cryptogram ||
		got.MAK.Algorithm != keys.DES || got.PIK.Algorithm != keys.TDES || got.PIK.Usage != keys.PINKey || got.MAK.Usage != keys.MACKey || got.TDK.Usage != keys.TrackKey ||
		got.PIK.KCV != first.PIK.KCV || !bytes.Equal(got.Answer, first.Answer) || got.Digest != first.Digest || !got.ExpiresAt.Equal(first.ExpiresAt) || got.Batch != "000001" ||
		got.PSAM != first.PSAM || got.MasterKey != first.MasterKey {
		t.Errorf("restored %+v", got)
	}
	k.Activate(terminal, 1)
	again("a1 ")
	commit(t, k, 2, "000001")
	again("a1 p2 ")
	k.Activate(terminal, 2)
	again("a2 g1 ")
	if b := k.Batch(terminal); b != "000001" {
		t.Errorf("batch %q", b)
	}
	k.SignOff(terminal)
	again("")
	if b := k.Batch(terminal); b != "000002" {
		t.Errorf("batch after the sign-off %q", b)
	}
	commit(t, k, 3, k.Batch(terminal))
	again("p3 ")
	k.Revoke(terminal)
	if b := k.Batch(terminal); b != "000003" {
		t.Errorf("batch after revocation %q", b)
	}
	commit(t, k, 4, "999999")
	k.SignOff(terminal)
	if b := k.Batch(terminal); b != "000001" {
		t.Errorf("batch after the last one %q", b)
	}
}

func TestSetWithoutTrackKey(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t).Pool(t, migrations.RolePOSP)
	k := start(t, pool)
	s := newSet(1, "")
	s.TDK, s.PSAM, s.MasterKey = keys.Wrapped{}, "", 0
	if err := k.Commit(t.Context(), terminal, s); err != nil {
		t.Fatal(err)
	}
	reload(t, k)
	got := k.Table.Load(terminal).Candidates(time.Now())
	if len(got) != 1 || !got[0].TDK.IsZero() {
		t.Errorf("sets %+v", got)
	}
}

// TestTwoKeepers: two instances never give one version to two sets, and find each other's sets.
func TestTwoKeepers(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	a, b := start(t, db.Pool(t, migrations.RolePOSP)), start(t, db.Pool(t, migrations.RolePOSP))
	var wg sync.WaitGroup
	versions := make(chan uint64, 8)
	for i := range 4 {
		for _, k := range []*workkeys.Keeper{a, b} {
			wg.Go(func() {
				s := newSet(byte(i), "000001")
				if err := k.Commit(t.Context(), terminal, s); err != nil {
					t.Error(err)
				}
				versions <- s.Version
			})
		}
	}
	wg.Wait()
	close(versions)
	seen := map[uint64]bool{}
	for v := range versions {
		if seen[v] {
			t.Errorf("version %d was given twice", v)
		}
		seen[v] = true
	}
	reload(t, a)
	reload(t, b)
	a.Activate(terminal, 8)
	reload(t, a) // writes it
	reload(t, b)
	want(t, b, "a8 ")
	want(t, a, "a8 ")
	// b, which does not know that a has moved on to 9, takes up a message under 8's predecessor: the database decides.
	s := commit(t, a, 9, "000001")
	reload(t, b)
	later := commit(t, a, 10, "000001")
	a.Activate(terminal, later.Version)
	reload(t, a)
	want(t, a, "a10 g8 ")
	b.Activate(terminal, s.Version)
	other := newSet(1, "000001")
	if err := b.Commit(t.Context(), "10000002", other); err != nil {
		t.Fatal(err)
	}
	b.Activate("10000002", 1)
	reload(t, b)
	want(t, b, "a10 g8 ")
	if err := a.Reload(t.Context(), "10000002"); err != nil {
		t.Fatal(err)
	}
	if got := a.Table.Load("10000002").Candidates(time.Now()); len(got) != 1 || got[0].State != workset.Active {
		t.Errorf("another terminal's state was held up: %+v", got)
	}
}

// TestReloadNeverRevives: a set that is revoked while a reload reads it stays revoked.
func TestReloadNeverRevives(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin := db.Pool(t, postgres.Superuser)
	k := start(t, db.Pool(t, migrations.RolePOSP))
	commit(t, k, 1, "000001")
	k.Activate(terminal, 1)
	reload(t, k)
	tx, err := admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "LOCK TABLE work_keys IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- k.Reload(t.Context(), terminal) }()
	for waiting := 0; waiting == 0; { // until the reload waits for the table; bounded by the test's own time-out
		if err := admin.QueryRow(t.Context(), "SELECT count(*) FROM pg_locks WHERE NOT granted").Scan(&waiting); err != nil {
			t.Fatal(err)
		}
	}
	k.Revoke(terminal)
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	want(t, k, "")
	reload(t, k)
	want(t, k, "")
}

func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	config, err := pgxpool.ParseConfig(db.URL(migrations.RolePOSP))
	if err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	k := workkeys.New(pool, slog.New(slog.DiscardHandler), time.Now)
	if err := k.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	commit(t, k, 1, "000001")
	pool.Close() // as far as this keeper can tell, the database is gone
	k.Activate(terminal, 1)
	want(t, k, "a1 ")
	if err := k.Commit(t.Context(), terminal, newSet(2, "000001")); err == nil {
		t.Error("a set was committed without a database")
	}
	if err := k.Reload(t.Context(), terminal); err == nil {
		t.Error("reloaded without a database")
	}
	want(t, k, "a1 ")
	if err := k.Stop(t.Context()); err == nil {
		t.Error("stop does not tell of states that were not saved")
	}
}

// TestDamagedSet: a set that was changed by other hands is not used, and hurts nobody else.
func TestDamagedSet(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t).Pool(t, migrations.RolePOSP)
	k := start(t, pool)
	commit(t, k, 1, "000001")
	commit(t, k, 2, "000001")
	if _, err := pool.Exec(t.Context(), "UPDATE work_keys SET pik = 'U99' WHERE version = 1"); err != nil {
		t.Fatal(err)
	}
	want(t, start(t, pool), "p2 ")
}
