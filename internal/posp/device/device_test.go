package device_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyward/keyward/internal/pgtest"
	"github.com/keyward/keyward/internal/posp/device"
	"github.com/keyward/keyward/internal/postgres"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/migrations"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const (
	terminal = "10000001"
	merchant = "104110000000001"
	card1    = "60000000000000000001"
	card2    = "60000000000000000002"

	within = time.Second // row P5
)

// fixture is a registry with one terminal, its card and the card's keys, and a follower of it.
type fixture struct {
	t       *testing.T
	db      *pgtest.DB
	admin   *pgxpool.Pool
	table   *device.Table
	follow  *device.Follower
	revoked chan string
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, db: pgtest.New(t), revoked: make(chan string, 100)}
	f.admin = f.db.Pool(t, postgres.Superuser)
	f.exec("INSERT INTO merchants (merchant_id, name) VALUES ('" + merchant + "', 'Shop')")
	f.exec("INSERT INTO terminals (terminal_id, merchant_id) VALUES ('" + terminal + "', '" + merchant + "')")
	for _, card := range []string{card1, card2} {
		f.exec("INSERT INTO cards (psam_no, state) VALUES ('" + card + "', 'in_service')")
		for _, algorithm := range []string{"tdes", "sm4"} {
			f.exec(`INSERT INTO keys (name, usage, algorithm, version, lmk_domain, cryptogram, kcv, length_bits, state)
				VALUES ('PSAM:` + card + `', 'tmk', '` + algorithm + `', 1, 'test', 'U` + card + algorithm + `', '0123456789ABCDEF', 128, 'active')`)
		}
	}
	f.exec("INSERT INTO bindings (psam_no, terminal_id, actor) VALUES ('" + card1 + "', '" + terminal + "', 'test')")
	f.table = device.NewTable(func(id string) { f.revoked <- id })
	f.follow = device.NewFollower(f.table, f.db.URL(migrations.RolePOSP), slog.New(slog.DiscardHandler), time.Now)
	if err := f.follow.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := f.follow.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return f
}

func (f *fixture) exec(statement string) {
	f.t.Helper()
	if _, err := f.admin.Exec(f.t.Context(), statement); err != nil {
		f.t.Fatalf("%s: %v", statement, err)
	}
}

// change does what posv does: the change and its announcement in one transaction.
func (f *fixture) change(id string, statements ...string) {
	f.t.Helper()
	tx, err := f.admin.Begin(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	for _, s := range append(statements, "INSERT INTO device_changes (terminal_id, kind) VALUES ('"+id+"', 'terminal')") {
		if _, err := tx.Exec(f.t.Context(), s); err != nil {
			f.t.Fatalf("%s: %v", s, err)
		}
	}
	if err := tx.Commit(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) await(what string, limit time.Duration, ok func() bool) {
	f.t.Helper()
	tick := time.NewTicker(time.Millisecond) // the table has no signal: production code only looks up
	defer tick.Stop()
	for end := time.Now().Add(limit); !ok(); <-tick.C {
		if time.Now().After(end) {
			f.t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

func (f *fixture) row() *device.Terminal {
	f.t.Helper()
	row, ok := f.table.Lookup(terminal)
	if !ok {
		f.t.Fatal("terminal is not in the table")
	}
	return row
}

func (f *fixture) wantRevoked(want int) {
	f.t.Helper()
	for range want {
		select {
		case id := <-f.revoked:
			if id != terminal {
				f.t.Errorf("revoked %s", id)
			}
		case <-time.After(within):
			f.t.Fatal("nothing was revoked")
		}
	}
	select {
	case id := <-f.revoked:
		f.t.Errorf("%s was revoked without a reason", id)
	default:
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	row := f.row()
	want := device.Terminal{
		ID: terminal, Merchant: merchant, State: "active", MerchantState: "active", Profile: "unionpay", Algorithm: keys.TDES, MAKBytes: 8, PSAM: card1,
		CardState: "in_service", MasterKey: row.MasterKey,
		Master: keys.Wrapped{Usage: keys.TerminalMaster, Algorithm: keys.TDES, Version: 1, Domain: "test", Cryptogram: "U" + card1 + "tdes", KCV: "0123456789ABCDEF"},
	}
	if *row != want || row.MasterKey == 0 || row.CheckActive() != nil || f.table.Len() != 1 {
		t.Errorf("row %+v, want %+v", *row, want)
	}
	if _, ok := f.table.Lookup("99999999"); ok {
		t.Error("an unknown terminal was found")
	}
	if age := f.table.Age(time.Now()); age > 5*time.Second {
		t.Errorf("age %s", age)
	}
}

func TestChanges(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		do      []string
		see     func(*device.Terminal) bool
		active  error
		revoked int
	}{
		{"suspended", []string{"UPDATE terminals SET state = 'suspended'"}, func(r *device.Terminal) bool { return r.State == "suspended" }, device.ErrTerminalInactive, 1},
		{"merchant suspended", []string{"UPDATE merchants SET state = 'suspended'"}, func(r *device.Terminal) bool { return r.MerchantState == "suspended" }, device.ErrTerminalInactive, 1},
		{"card lost", []string{"UPDATE cards SET state = 'lost' WHERE psam_no = '" + card1 + "'"}, func(r *device.Terminal) bool { return r.CardState == "lost" }, device.ErrNoCard, 1},
		{"card unbound", []string{"UPDATE bindings SET valid_to = now()"}, func(r *device.Terminal) bool { return r.PSAM == "" }, device.ErrNoCard, 1},
		{"another card", []string{"UPDATE bindings SET valid_to = now()", "INSERT INTO bindings (psam_no, terminal_id, actor) VALUES ('" + card2 + "', '" + terminal + "', 'test')"},
			func(r *device.Terminal) bool { return r.PSAM == card2 }, nil, 1},
		{"another algorithm", []string{"UPDATE terminals SET algorithm = 'sm4'"}, func(r *device.Terminal) bool {
			return r.Algorithm == keys.SM4 && r.Master.Algorithm == keys.SM4 && r.Master.Cryptogram == "U"+card1+"sm4"
		}, nil, 1},
		{"master key suspended", []string{"UPDATE keys SET state = 'suspended' WHERE name = 'PSAM:" + card1 + "'"}, func(r *device.Terminal) bool { return r.Master.IsZero() }, device.ErrNoMasterKey, 1},
		{"test terminal", []string{"UPDATE terminals SET test = true"}, func(r *device.Terminal) bool { return r.Test }, nil, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.change(terminal, test.do...)
			f.await(test.name, within, func() bool { return test.see(f.row()) })
			if err := f.row().CheckActive(); !errors.Is(err, test.active) {
				t.Errorf("active: %v, want %v", err, test.active)
			}
			f.wantRevoked(test.revoked)
		})
	}
}

// TestReload: one terminal at once, without a notice; and one that is gone.
func TestReload(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("INSERT INTO terminals (terminal_id, merchant_id) VALUES ('10000002', '" + merchant + "')")
	if err := f.follow.Reload(t.Context(), "10000002"); err != nil {
		t.Fatal(err)
	}
	row, ok := f.table.Lookup("10000002")
	if !ok || f.table.Len() != 2 || !errors.Is(row.CheckActive(), device.ErrNoCard) {
		t.Error("the new terminal was not found")
	}
	f.exec("DELETE FROM terminals WHERE terminal_id = '10000002'")
	if err := f.follow.Reload(t.Context(), "10000002"); err != nil {
		t.Fatal(err)
	}
	if _, ok := f.table.Lookup("10000002"); ok || f.table.Len() != 1 {
		t.Error("a terminal that is gone was found")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.follow.Reload(ended, terminal); err == nil {
		t.Error("reloaded without time")
	}
}

// TestDatabaseAway: the connection is cut, the copy serves on, and a change made meanwhile arrives afterwards.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for range 3 {
		f.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'keyward_posp'")
		if f.row().CheckActive() != nil {
			t.Error("the copy does not serve")
		}
	}
	f.change(terminal, "UPDATE terminals SET state = 'lost'")
	f.await("change after the database was away", 10*time.Second, func() bool { return f.row().State == "lost" })
	f.wantRevoked(1)
}

// TestReloadsAndChanges: whatever reloads are under way, the last word is the database's.
func TestReloadsAndChanges(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	stop := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			default:
				if err := f.follow.Reload(t.Context(), terminal); err != nil {
					t.Error(err)
					return
				}
			}
		}
	}()
	for i := range 20 {
		state := []string{"suspended", "active"}[i%2]
		f.change(terminal, "UPDATE terminals SET state = '"+state+"'")
		f.await(state, within, func() bool { return f.row().State == state })
	}
	close(stop)
	<-ended
	if f.row().State != "active" {
		t.Errorf("state %s", f.row().State)
	}
}

func TestStartNeedsTheDatabase(t *testing.T) {
	t.Parallel()
	f := device.NewFollower(device.NewTable(nil), "postgres://someone:hidden@127.0.0.1:1/x?connect_timeout=1", slog.New(slog.DiscardHandler), time.Now)
	if err := f.Start(t.Context()); err == nil {
		t.Error("started without a database")
	}
	if err := f.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}
