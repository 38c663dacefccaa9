package route_test

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyward/keyward/internal/pgtest"
	"github.com/keyward/keyward/internal/posp/route"
	"github.com/keyward/keyward/migrations"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// patience bounds every wait; what is waited for takes milliseconds.
const patience = 30 * time.Second

const toOther = "rules:\n- name: all\n  hosts: [other]\n"

func open(t *testing.T, pool *pgxpool.Pool, instance string, hosts ...string) *route.Book {
	t.Helper()
	b, err := route.New(route.Config{Pool: pool, Instance: instance, Hosts: hosts})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := b.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

func save(t *testing.T, b *route.Book, document string) route.Version {
	t.Helper()
	v, err := b.Save(t.Context(), document, "alice", "trial", -1)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func undo(t *testing.T, b *route.Book, to int64) route.Version {
	t.Helper()
	v, err := b.Undo(t.Context(), to, "alice", "", -1)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// until waits for a state of another instance.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) { // polling
		if time.Now().After(end) {
			t.Fatal("waited too long for ", what)
		}
	}
}

func version(b *route.Book, n int64) func() bool {
	return func() bool { return b.Table().Version == n }
}

func chosen(b *route.Book) string {
	_, hosts := b.Table().Choose(facts(nil))
	return hosts[0]
}

// TestBook: a change is in force on the instance that made it when it is made, and soon on the others; undo goes back step by step.
func TestBook(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	pool := db.Pool(t, migrations.RolePOSP)
	a, b := open(t, pool, "posp-1", hosts...), open(t, pool, "posp-2", hosts...)
	if chosen(a) != "bank" || a.Status().Version.Version != 0 {
		t.Fatalf("at first %s, %+v", chosen(a), a.Status())
	}
	began := time.Now()
	v := save(t, a, toOther)
	if v.Version != 1 || chosen(a) != "other" || v.SavedAt.IsZero() {
		t.Fatalf("saved %+v, chosen %s", v, chosen(a))
	}
	until(t, "the other instance", version(b, 1))
	if took := time.Since(began); took > 8*time.Second { // the poll comes after ten
		t.Errorf("the notice took %v", took)
	}
	save(t, b, "default: [bank]\n")
	until(t, "version 2", version(a, 2))
	if s := b.Status(); s.Stored != 2 || s.Version.SavedBy != "alice" || s.Version.Instance != "posp-2" || s.Problem != "" || s.DatabaseAway {
		t.Errorf("%+v", s)
	}

	// Undo: 2, then 1, then no rules, then nothing.
	if v := undo(t, a, -1); v.Version != 3 || *v.Restores != 1 || chosen(a) != "other" {
		t.Errorf("%+v", v)
	}
	until(t, "the undo", version(b, 3))
	if v := undo(t, b, -1); v.Version != 4 || *v.Restores != 0 || v.Document != "" || chosen(b) != "bank" {
		t.Errorf("%+v", v)
	}
	var refusal *route.Refusal
	if _, err := a.Undo(t.Context(), -1, "alice", "", -1); !errors.As(err, &refusal) || !strings.Contains(err.Error(), "nothing to undo") {
		t.Error(err)
	}
	if _, err := a.Undo(t.Context(), 9, "alice", "", -1); !errors.As(err, &refusal) || !strings.Contains(err.Error(), "version 9") {
		t.Error(err)
	}
	until(t, "version 4", version(a, 4))
	if v := undo(t, a, 1); v.Version != 5 || *v.Restores != 1 || chosen(a) != "other" {
		t.Errorf("%+v", v)
	}
	list, err := a.Versions(t.Context(), 3)
	if err != nil || len(list) != 3 || list[0].Version != 5 || list[2].Version != 3 {
		t.Errorf("%+v, %v", list, err)
	}
	// Each change is in the audit chain.
	var audited int
	if err := db.Pool(t, migrations.RolePOSV).QueryRow(t.Context(), "SELECT count(*) FROM audit WHERE action = 'route.save' AND actor = 'alice'").Scan(&audited); err != nil || audited != 5 {
		t.Errorf("%d records, %v", audited, err)
	}
	// A new instance begins with the newest.
	if c := open(t, pool, "posp-3", hosts...); c.Table().Version != 5 || chosen(c) != "other" {
		t.Errorf("%+v", c.Status())
	}
}

// TestConflict: of many who have seen the same version one saves, and the others hear of it.
func TestConflict(t *testing.T) {
	t.Parallel()
	b := open(t, pgtest.New(t).Pool(t, migrations.RolePOSP), "posp-1", hosts...)
	var wins, losses int
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			_, err := b.Save(t.Context(), toOther, "alice", "", 0)
			var refusal *route.Refusal
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				wins++
			case errors.As(err, &refusal) && refusal.Conflict && strings.Contains(refusal.Text, "saved by alice on posp-1"):
				losses++
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if wins != 1 || losses != 5 || b.Table().Version != 1 {
		t.Errorf("%d saved, %d heard of it", wins, losses)
	}
	if _, err := b.Save(t.Context(), "", "alice", "", 7); err == nil {
		t.Error("a version after one that does not exist")
	}
}

// TestNotHere: an instance that lacks a host keeps its rules, says so, begins with the newest version that it can follow, and is whole after
// an undo, which may be made on itself.
func TestNotHere(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t).Pool(t, migrations.RolePOSP)
	a, b := open(t, pool, "posp-1", "bank", "other", "new"), open(t, pool, "posp-2", hosts...)
	save(t, a, toOther)
	until(t, "version 1", version(b, 1))
	save(t, a, "rules:\n- name: all\n  hosts: [new]\n")
	until(t, "the problem", func() bool { return b.Status().Problem != "" })
	check := func(b *route.Book) {
		t.Helper()
		if s := b.Status(); s.Version.Version != 1 || s.Stored != 2 || chosen(b) != "other" || !strings.Contains(s.Problem, `line 3: host "new" is not configured`) {
			t.Errorf("%+v", s)
		}
	}
	check(b)
	check(open(t, pool, "posp-3", hosts...))
	if _, err := b.Save(t.Context(), "rules:\n- name: all\n  hosts: [new]\n", "bob", "", 2); err == nil || !strings.Contains(err.Error(), "line 3") {
		t.Error("saved what cannot be followed here: ", err)
	}
	if v := undo(t, b, -1); v.Version != 3 || *v.Restores != 1 || b.Status().Problem != "" {
		t.Errorf("%+v, %+v", v, b.Status())
	}
}

// TestDatabaseAway: the rules stay in force, a change is refused as one that could not be asked, and newer rules come when it is back.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	line := &line{}
	cfg, err := pgxpool.ParseConfig(db.URL(migrations.RolePOSP))
	if err != nil {
		t.Fatal(err)
	}
	cfg.ConnConfig.DialFunc = line.dial
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	b := open(t, pool, "posp-1", hosts...)
	save(t, b, toOther)
	line.cut()
	until(t, "the database's absence", func() bool { return b.Status().DatabaseAway })
	if _, err := b.Save(t.Context(), "", "alice", "", -1); !errors.Is(err, route.ErrAway) {
		t.Error(err)
	}
	if chosen(b) != "other" || b.Table().Version != 1 {
		t.Errorf("%+v", b.Status())
	}
	conn, err := pgx.Connect(t.Context(), db.URL(migrations.RolePOSP))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	if _, err := conn.Exec(t.Context(), "INSERT INTO route_versions (version, document, saved_by, instance) VALUES (2, '', 'bob', 'posp-2')"); err != nil {
		t.Fatal(err)
	}
	line.mend()
	until(t, "the newer rules", version(b, 2))
	if s := b.Status(); chosen(b) != "bank" || s.DatabaseAway || s.Version.SavedBy != "bob" {
		t.Errorf("%+v", s)
	}
}

// line is the way to the database, which can be cut.
type line struct {
	mu    sync.Mutex
	off   bool
	conns []net.Conn
}

func (l *line) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.off {
		return nil, errors.New("the line is cut")
	}
	c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err == nil {
		l.conns = append(l.conns, c)
	}
	return c, err
}

func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.off = true
	for _, c := range l.conns {
		_ = c.Close()
	}
}

func (l *line) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.off = false
}
