package hsmlist_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/internal/hsmlist"
	"github.com/keyward/keyward/internal/pgtest"
	"github.com/keyward/keyward/migrations"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// patience bounds every wait; what is waited for takes milliseconds.
const patience = 30 * time.Second

// cluster is an HSM cluster as the list sees it.
type cluster struct {
	mu      sync.Mutex
	specs   []member.Spec
	refuse  error
	applied chan member.Act
	probed  chan string
}

func newCluster(specs ...member.Spec) *cluster {
	return &cluster{specs: specs, applied: make(chan member.Act, 10), probed: make(chan string, 10)}
}

func (c *cluster) Specs() []member.Spec {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]member.Spec{}, c.specs...)
}

func (c *cluster) set(specs ...member.Spec) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.specs = specs
}

func (c *cluster) Apply(_ context.Context, act member.Act, specs []member.Spec) error {
	c.mu.Lock()
	err := c.refuse
	if err == nil {
		c.specs = append([]member.Spec{}, specs...)
	}
	c.mu.Unlock()
	c.applied <- act
	return err
}

func (c *cluster) ProbeSoon(name, reason string) { c.probed <- name + ": " + reason }

func (c *cluster) names() string {
	var names []string
	for _, s := range c.Specs() {
		names = append(names, s.Name)
	}
	return strings.Join(names, " ")
}

// posp is one instance: its cluster and its list, started.
type posp struct {
	*cluster
	list *hsmlist.List
}

func config(t *testing.T, db *pgtest.DB, instance string) hsmlist.Config {
	t.Helper()
	return hsmlist.Config{
		Group: "online", Instance: instance, URL: db.URL(migrations.RolePOSP), LocalCopy: filepath.Join(t.TempDir(), "hsm.json"), Retention: time.Hour,
	}
}

func start(t *testing.T, cfg hsmlist.Config, configured ...member.Spec) posp {
	t.Helper()
	l, err := hsmlist.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := l.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	specs, err := l.Load(t.Context(), configured)
	if err != nil {
		t.Fatal(err)
	}
	p := posp{newCluster(specs...), l}
	l.Start(t.Context(), p.cluster)
	return p
}

func (p posp) save(t *testing.T, by string) hsmlist.Version {
	t.Helper()
	v, err := p.list.Save(t.Context(), member.Act{By: by, Reason: "test"}, -1)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func get[T any](t *testing.T, what string, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatalf("%s did not come", what)
		panic("unreachable")
	}
}

// until looks again and again at what has no signal.
func until(t *testing.T, what string, isSo func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !isSo(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not so: %s", what)
		}
	}
}

var one, two, three = member.Spec{Name: "hsm1", Addr: "a:1"}, member.Spec{Name: "hsm2", Addr: "b:1"}, member.Spec{Name: "hsm3", Addr: "c:1", Priority: 2}

// TestShared: what one instance makes permanent is in force on the other, and is what a third begins with.
func TestShared(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	a, b := start(t, config(t, db, "posp-a"), one, two), start(t, config(t, db, "posp-b"), one, two)
	if s := a.list.Status(); s.Origin != hsmlist.Configuration || s.Version != 0 || s.Unsaved {
		t.Errorf("at the start: %+v", s)
	}
	a.set(one, two, three)
	if s := a.list.Status(); !s.Unsaved {
		t.Errorf("a change is not shown as unsaved: %+v", s)
	}
	v := a.save(t, "li.na")
	if s := a.list.Status(); v.Version != 1 || v.SavedBy != "li.na" || v.Instance != "posp-a" || v.SavedAt.IsZero() || s.Unsaved || s.Version != 1 {
		t.Errorf("saved %+v, status %+v", v, s)
	}
	act := get(t, "the list", b.applied)
	if act.By != "li.na" || !strings.Contains(act.Reason, "version 1, saved on posp-a: test") || b.names() != "hsm1 hsm2 hsm3" {
		t.Errorf("%+v with %s", act, b.names())
	}
	until(t, "posp-b has version 1", func() bool { return b.list.Status().Version == 1 })
	c := start(t, config(t, db, "posp-c"), one)
	if s := c.list.Status(); c.names() != "hsm1 hsm2 hsm3" || s.Origin != hsmlist.Stored || s.Version != 1 || s.Unsaved {
		t.Errorf("a third began with %s, %+v", c.names(), s)
	}
	versions, err := b.list.Versions(t.Context(), 10)
	if err != nil || len(versions) != 1 || len(versions[0].Members) != 3 || versions[0].Members[2].Priority != 2 {
		t.Errorf("%+v, %v", versions, err)
	}
}

// TestConflict: of two that save, the second hears who was first, whether it knew the version or not.
func TestConflict(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	a, b := start(t, config(t, db, "posp-a"), one), start(t, config(t, db, "posp-b"), one)
	a.save(t, "li.na")
	get(t, "the list", b.applied)
	for _, base := range []int64{0, 7} {
		_, err := b.list.Save(t.Context(), member.Act{By: "wang.wei"}, base)
		if !member.IsRefusal(err, member.Conflict) || !strings.Contains(err.Error(), "version 1 of the list was saved by li.na on posp-a") {
			t.Errorf("base %d: %v", base, err)
		}
	}
	if _, err := b.list.Save(t.Context(), member.Act{By: "wang.wei"}, 1); err != nil {
		t.Errorf("with the version seen: %v", err)
	}
	b.set()
	if _, err := b.list.Save(t.Context(), member.Act{By: "wang.wei"}, 2); !member.IsRefusal(err, member.Invalid) {
		t.Errorf("an empty list: %v", err)
	}
}

// TestRace: of many that save at the same moment on the same version, exactly one succeeds.
func TestRace(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	const n = 4
	var wg sync.WaitGroup
	results := make(chan error, n)
	for i := range n {
		p := start(t, config(t, db, fmt.Sprintf("posp-%d", i)), one)
		wg.Go(func() {
			_, err := p.list.Save(context.Background(), member.Act{By: "x"}, 0)
			results <- err
		})
	}
	wg.Wait()
	won := 0
	for range n {
		if err := <-results; err == nil {
			won++
		} else if !member.IsRefusal(err, member.Conflict) {
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d have saved version 1", won)
	}
}

// TestAway: with the database away the local copy serves a start, nothing can be saved, and the history waits until it is back.
func TestAway(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	cfg := config(t, db, "posp-a")
	start(t, cfg, one, two).save(t, "li.na")
	cfg.URL = "postgres://u:hidden@127.0.0.1:1/none"
	p := start(t, cfg, three)
	if s := p.list.Status(); p.names() != "hsm1 hsm2" || s.Origin != hsmlist.Copy || s.Version != 1 {
		t.Errorf("began with %s, %+v", p.names(), s)
	}
	_, err := p.list.Save(t.Context(), member.Act{By: "li.na"}, -1)
	if !errors.Is(err, hsmlist.ErrAway) || strings.Contains(err.Error(), "hidden") {
		t.Errorf("saved without a database: %v", err)
	}
	until(t, "the status says so", func() bool { return p.list.Status().DatabaseAway })

	cfg.LocalCopy = filepath.Join(t.TempDir(), "none.json")
	if p := start(t, cfg, three); p.names() != "hsm3" {
		t.Errorf("without a copy: %s", p.names())
	}
	if err := os.WriteFile(cfg.LocalCopy, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := hsmlist.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Stop(t.Context()) }()
	if _, err := l.Load(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("a copy that is none: %v", err)
	}
}

// TestAnswered: a database that answers what cannot be used is not told to be away.
func TestAnswered(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	pool := db.Pool(t, migrations.RolePOSP)
	if _, err := pool.Exec(t.Context(), `INSERT INTO hsm_lists (hsm_group, version, members, saved_by, instance) VALUES ('online', 1, '[{"unknown": 1}]', 'li', 'posp-1')`); err != nil {
		t.Fatal(err)
	}
	if _, err := hsmlist.Versions(t.Context(), pool, "online", 1); err == nil || errors.Is(err, hsmlist.ErrAway) || !strings.Contains(err.Error(), "newer version") {
		t.Errorf("a list that cannot be read: %v", err)
	}
	if _, err := hsmlist.History(t.Context(), pool, hsmlist.Filter{Member: "\x00"}); err == nil || errors.Is(err, hsmlist.ErrAway) {
		t.Errorf("a question that the database refuses: %v", err)
	}
}

// TestUnreadable: a newest list that cannot be read is called that, not a database that is away. The local copy serves; without one there is
// no start, because the configuration is older than any list.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	pool := db.Pool(t, migrations.RolePOSP)
	insert := func(version int, members string) {
		t.Helper()
		_, err := pool.Exec(t.Context(), `INSERT INTO hsm_lists (hsm_group, version, members, saved_by, instance) VALUES ('online', $1, $2, 'li', 'posp-9')`, version, members)
		if err != nil {
			t.Fatal(err)
		}
	}
	cfg := config(t, db, "posp-a")
	running := start(t, cfg, one, two)
	running.save(t, "li.na")
	insert(2, `[{"name": "hsm1", "addr": "a:1", "of_a_newer_program": 1}]`)
	shown := func(p posp) func() bool {
		return func() bool {
			s := p.list.Status()
			return strings.Contains(s.Problem, "cannot be read") && strings.Contains(s.Problem, "version 2") && !s.DatabaseAway && !s.CheckedAt.IsZero()
		}
	}
	until(t, "the running instance shows it", shown(running))

	var log lockedBuffer
	second := config(t, db, "posp-a")
	kept, err := os.ReadFile(cfg.LocalCopy)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(second.LocalCopy, kept, 0o600); err != nil {
		t.Fatal(err)
	}
	second.Log = slog.New(slog.NewTextHandler(&log, nil))
	p := start(t, second, three)
	if s := p.list.Status(); p.names() != "hsm1 hsm2" || s.Origin != hsmlist.Copy || s.Version != 1 || !strings.Contains(s.Problem, "cannot be read") {
		t.Errorf("began with %s, %+v", p.names(), s)
	}
	until(t, "the new instance shows it", shown(p))
	if text := log.String(); !strings.Contains(text, "newest saved list cannot be read") || strings.Contains(text, "away") || strings.Contains(text, "does not answer") {
		t.Errorf("the log says: %s", text)
	}

	without := config(t, db, "posp-b")
	l, err := hsmlist.New(without)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Stop(t.Context()) }()
	if specs, err := l.Load(t.Context(), []member.Spec{three}); err == nil || errors.Is(err, hsmlist.ErrAway) ||
		!strings.Contains(err.Error(), "version 2") || !strings.Contains(err.Error(), "no local copy") {
		t.Errorf("began with %v: %v", specs, err)
	}

	insert(3, `[{"name": "hsm3", "addr": "c:1"}]`)
	for _, p := range []posp{running, p} {
		until(t, "the next list is in force", func() bool { s := p.list.Status(); return s.Version == 3 && s.Problem == "" && p.names() == "hsm3" })
	}
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// TestFences: a device that one instance has fenced on its own evidence is probed by the others at once; one that an operator fences is not.
func TestFences(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	a, b := start(t, config(t, db, "posp-a"), one, two), start(t, config(t, db, "posp-b"), one, two)
	until(t, "both have asked the database", func() bool { return !a.list.Status().CheckedAt.IsZero() && !b.list.Status().CheckedAt.IsZero() })
	fenced := func(seq uint64, name, by string, phase member.Phase) {
		a.list.OnSwitch(member.Switch{Seq: seq, At: time.Now(), Phase: phase, Member: name, What: "state", From: "working", To: "fenced", By: by, Reason: "LMK check value 1111111111111111"})
	}
	fenced(1, "hsm1", "li.na", member.After)
	fenced(2, "hsm2", "cluster", member.Before)
	fenced(3, "hsm2", "cluster", member.After)
	if got := get(t, "the notice", b.probed); got != "hsm2: posp-a has fenced it: LMK check value 1111111111111111" {
		t.Errorf("probed %q", got)
	}
	until(t, "the history is written", func() bool {
		list, err := b.list.History(t.Context(), hsmlist.Filter{Limit: 10})
		return err == nil && len(list) == 3
	})
	list, err := b.list.History(t.Context(), hsmlist.Filter{Limit: 10})
	if err != nil || list[0].Seq != 3 || list[0].Instance != "posp-a" || list[0].To != "fenced" {
		t.Errorf("%+v, %v", list, err)
	}
	list, err = b.list.History(t.Context(), hsmlist.Filter{Limit: 10, After: list[2].ID, Member: "hsm2"})
	if err != nil || len(list) != 2 || list[0].Seq != 2 || list[0].Phase != member.Before {
		t.Errorf("what follows: %+v, %v", list, err)
	}
	select {
	case got := <-a.probed:
		t.Errorf("its own notice came back: %q", got)
	case got := <-b.probed:
		t.Errorf("probed without a reason: %q", got)
	default:
	}
}

// TestProblems: a list that the cluster refuses, or that has a member which this service must not have, is shown and not in force.
func TestProblems(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	cfg := config(t, db, "posp-b")
	cfg.Check = func(s member.Spec) error {
		if s.Addr == "c:1" {
			return errors.New("the line to " + s.Name + " is plain")
		}
		return nil
	}
	a, b := start(t, config(t, db, "posp-a"), one), start(t, cfg, one)
	b.mu.Lock()
	b.refuse = errors.New("no place")
	b.mu.Unlock()
	a.set(one, two)
	a.save(t, "li.na")
	get(t, "the try", b.applied)
	until(t, "the problem is shown", func() bool { return strings.Contains(b.list.Status().Problem, "no place") })
	// Any next look tries again, for example after a notice.
	b.mu.Lock()
	b.refuse = nil
	b.mu.Unlock()
	a.list.OnSwitch(member.Switch{Seq: 1, At: time.Now(), Phase: member.After, Member: "hsm1", What: "state", To: "fenced", By: "cluster"})
	until(t, "the list is in force after all", func() bool { s := b.list.Status(); return s.Version == 1 && s.Problem == "" })
	a.set(one, three)
	a.save(t, "li.na")
	until(t, "the other problem is shown", func() bool { return strings.Contains(b.list.Status().Problem, "the line to hsm3 is plain") })
	if s := b.list.Status(); s.Version != 1 || s.Stored != 2 || b.names() != "hsm1 hsm2" {
		t.Errorf("%+v with %s", s, b.names())
	}
	l, err := hsmlist.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Stop(t.Context()) }()
	if _, err := l.Load(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "the line to hsm3 is plain") {
		t.Errorf("began with it: %v", err)
	}
}
