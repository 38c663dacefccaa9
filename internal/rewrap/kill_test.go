package rewrap_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyward/keyward/internal/pgtest"
	"github.com/keyward/keyward/internal/rewrap"
	"github.com/keyward/keyward/migrations"
)

// childEnv holds the connection string of an engine that runs as a process of its own, in this very binary.
const childEnv = "KEYWARD_REWRAP_CHILD"

func TestMain(m *testing.M) {
	if url := os.Getenv(childEnv); url != "" {
		os.Exit(child(url))
	}
	os.Exit(pgtest.Main(m))
}

// child works until it is killed or its parent has gone.
func child(url string) int {
	pool, err := pgxpool.New(context.Background(), url)
	if err != nil {
		return 1
	}
	d := newDevice()
	e, err := rewrap.New(rewrap.Config{
		Pool: pool, Check: d, Translate: d, Exchange: d, Log: slog.New(slog.DiscardHandler), Tick: 20 * time.Millisecond, Watch: 20 * time.Millisecond,
	})
	if err != nil || e.Start(context.Background()) != nil {
		return 1
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.Closer
}

func (f *fixture) process() *process {
	f.t.Helper()
	binary, err := os.Executable()
	f.must(err)
	cmd := exec.Command(binary) // Without a context: kill ends it.
	cmd.Env = append(os.Environ(), childEnv+"="+f.db.URL(migrations.RoleKeys))
	stdin, err := cmd.StdinPipe()
	f.must(err)
	f.must(cmd.Start())
	p := &process{f.t, cmd, stdin}
	f.t.Cleanup(p.kill)
	return p
}

// kill ends the process with SIGKILL.
func (p *process) kill() {
	if p.cmd.ProcessState != nil {
		return
	}
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	_ = p.stdin.Close()
}

// TestKilledAtEachStep: the process is killed in the middle of a transaction of each step; nothing is lost or done twice, and the next process
// ends the step.
func TestKilledAtEachStep(t *testing.T) {
	t.Parallel()
	const cards = 450 // several batches of every kind
	f := open(t, 0)
	f.stop() // orders are given here, the work is done by processes
	f.exec(`INSERT INTO keys (name, usage, algorithm, version, lmk_domain, cryptogram, kcv, length_bits, state)
		SELECT name, 'tmk', 'tdes', 1, 'old', 'old/' || name, upper(encode(substr(sha256(name::bytea), 1, 8), 'hex')), 128, 'active'
		FROM (SELECT 'PSAM:6000000000000000' || lpad(n::text, 4, '0') AS name FROM generate_series(1, $1) AS n) AS names`, cards)
	id := f.begin(1000)
	steps := []struct {
		order func() error
		then  rewrap.State
		table string // a lock on it stops the process in the middle of a batch
		ok    func(rewrap.Progress) bool
	}{
		{func() error { return nil }, rewrap.Copied, "key_events", func(p rewrap.Progress) bool { return p.Done == cards+1 }},
		{func() error {
			_, err := f.engine.Switch(t.Context(), id, rewrap.Selection{Share: 100}, "bob")
			return err
		}, rewrap.Switched, "key_events", func(p rewrap.Progress) bool { return p.Switched == cards+1 }},
		{func() error { _, err := f.engine.Back(t.Context(), id, "bob"); return err }, rewrap.Copied, "key_events",
			func(p rewrap.Progress) bool { return p.Switched == 0 }},
		{func() error {
			_, err := f.engine.Switch(t.Context(), id, rewrap.Selection{Share: 100}, "bob")
			return err
		}, rewrap.Switched, "audit", func(p rewrap.Progress) bool { return p.Switched == cards+1 }}, // killed at the last move
		{func() error { _, err := f.engine.Retire(t.Context(), id, "bob"); return err }, rewrap.Retired, "key_events",
			func(p rewrap.Progress) bool { return p.Done == cards+1 }},
	}
	for i, step := range steps {
		f.must(step.order())
		lock, err := f.admin.Begin(t.Context())
		f.must(err)
		_, err = lock.Exec(t.Context(), "LOCK TABLE "+step.table+" IN EXCLUSIVE MODE")
		f.must(err)
		victim := f.process()
		f.awaitBlocked(fmt.Sprintf("step %d", i))
		victim.kill()
		f.must(lock.Rollback(t.Context()))
		f.everywhere()
		if st := f.status(id); st.State == step.then {
			t.Fatalf("step %d: done before the process was killed: %+v", i, st)
		}
		next := f.process()
		st := f.awaitState(id, step.then)
		next.kill()
		if f.everywhere(); !step.ok(st.Progress) {
			t.Errorf("step %d: %+v", i, st.Progress)
		}
	}
	for event, want := range map[string]int{"rewrap_copied": 1, "rewrap_switched": 2, "rewrap_returned": 1, "rewrap_erased": 1} {
		if n := f.count(`key_events WHERE event = $1`, event); n != want*(cards+1) {
			t.Errorf("%d events %s, want %d", n, event, want*(cards+1))
		}
	}
	if n := f.count(`key_twins WHERE cryptogram IS NOT NULL`); n != 0 {
		t.Errorf("%d twins left", n)
	}
}

// awaitBlocked waits until a connection of the key service waits for a lock.
func (f *fixture) awaitBlocked(what string) {
	f.t.Helper()
	for end := time.Now().Add(patience); f.count(`pg_stat_activity WHERE usename = 'keyward_keys' AND datname = current_database() AND wait_event_type = 'Lock'`) == 0; {
		if time.Now().After(end) {
			f.t.Fatalf("%s: the process does not come to the lock", what)
		}
		time.Sleep(5 * time.Millisecond) // polling
	}
}
