package migrations_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	osexec "os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyward/keyward/internal/pgtest"
	"github.com/keyward/keyward/internal/postgres"
	"github.com/keyward/keyward/migrations"
)

// schemaQuery describes everything that the migrations make: columns, constraints, indexes, functions, grants.
const schemaQuery = `
	SELECT 'column ' || table_name || ' ' || column_name || ' ' || data_type || ' ' || is_nullable || ' ' || coalesce(column_default, '')
		FROM information_schema.columns WHERE table_schema = 'public'
	UNION ALL SELECT 'constraint ' || conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid)
		FROM pg_constraint WHERE connamespace = 'public'::regnamespace
	UNION ALL SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = 'public'
	UNION ALL SELECT 'function ' || proname || ' ' || md5(prosrc) || ' ' || coalesce(proacl::text, '') FROM pg_proc WHERE pronamespace = 'public'::regnamespace
	UNION ALL SELECT 'relation ' || relname || ' ' || relkind::text || ' ' || pg_get_userbyid(relowner) || ' ' || coalesce(relacl::text, '') FROM pg_class
		WHERE relnamespace = 'public'::regnamespace
	ORDER BY 1`

func TestFilesKeepTheRules(t *testing.T) {
	t.Parallel()
	ups, err := fs.Glob(migrations.Files, "*.up.sql")
	if err != nil || len(ups) == 0 {
		t.Fatalf("%d up files, %v", len(ups), err)
	}
	all, err := fs.Glob(migrations.Files, "*.sql")
	if err != nil || len(all) != 2*len(ups) {
		t.Errorf("%d files for %d migrations, %v: want one up and one down each", len(all), len(ups), err)
	}
	comment := regexp.MustCompile(`--[^\n]*|'[^']*'`) // and texts
	forbidden := regexp.MustCompile(`(?i)\b(COMMIT|ROLLBACK|CONCURRENTLY|START\s+TRANSACTION|BEGIN\s*;|VACUUM)\b`)
	for i, up := range ups {
		if want := fmt.Sprintf("%04d_", i+1); !strings.HasPrefix(up, want) {
			t.Errorf("%s: number is not the next one, %s", up, want)
		}
		for _, name := range []string{up, strings.Replace(up, ".up.", ".down.", 1)} {
			raw, err := migrations.Files.ReadFile(name)
			if err != nil {
				t.Errorf("%v", err)
				continue
			}
			if found := forbidden.FindString(comment.ReplaceAllString(string(raw), "")); found != "" {
				t.Errorf("%s: %s breaks the rule of one implicit transaction", name, found)
			}
		}
		if raw, err := migrations.Files.ReadFile(up); i > 0 && (err != nil || !strings.Contains(string(raw), "\nSET LOCAL ROLE keyward_owner;\n")) {
			t.Errorf("%s: does not work as keyward_owner, %v", up, err)
		}
	}
	if migrations.Latest() != len(ups) {
		t.Errorf("Latest() = %d with %d files", migrations.Latest(), len(ups))
	}
}

func TestUpDownUp(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	url, pool := db.URL(postgres.Superuser), admin(t, db)
	first := list(t, pool, schemaQuery)
	for range 2 {
		if err := migrations.Down(t.Context(), url); err != nil {
			t.Fatal(err)
		}
		if left := list(t, pool, schemaQuery); slices.ContainsFunc(left, func(s string) bool { return !strings.Contains(s, "schema_migrations") }) {
			t.Errorf("left after down: %q", left)
		}
		wantVersion(t, url, 0)
		for range 2 { // the second finds nothing to do
			if err := migrations.Apply(t.Context(), url); err != nil {
				t.Fatal(err)
			}
		}
		wantVersion(t, url, migrations.Latest())
		if again := list(t, pool, schemaQuery); !slices.Equal(first, again) {
			t.Error("the schema differs after down and up")
		}
	}
}

func TestThreeStartersAtOnce(t *testing.T) {
	t.Parallel()
	for name, dirty := range map[string]bool{"from nothing": false, "on a dirty version": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			url := db.URL(postgres.Superuser)
			if err := migrations.Down(t.Context(), url); err != nil {
				t.Fatal(err)
			}
			if dirty {
				exec(t, admin(t, db), "INSERT INTO schema_migrations (version, dirty) VALUES (1, true)")
			}
			done := make(chan error)
			for range 3 {
				go func() { done <- migrations.Apply(t.Context(), url) }()
			}
			for range 3 {
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
			wantVersion(t, url, migrations.Latest())
		})
	}
}

// TestKilledHalfWay stops a starter in the middle of 0003 in two ways; the next one must simply go on.
func TestKilledHalfWay(t *testing.T) {
	t.Parallel()
	stoppers := map[string]func(t *testing.T, url string, blocked func()){
		"SIGKILL": func(t *testing.T, url string, blocked func()) {
			starter := osexec.Command(os.Args[0])
			starter.Env = append(os.Environ(), applyURL+"="+url)
			if err := starter.Start(); err != nil {
				t.Fatal(err)
			}
			blocked()
			if err := starter.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = starter.Wait() // reports the kill
		},
		"context": func(t *testing.T, url string, blocked func()) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error)
			go func() { done <- migrations.Apply(ctx, url) }()
			blocked()
			cancel()
			if err := <-done; err == nil || !strings.Contains(err.Error(), "context canceled") {
				t.Errorf("cancelled apply: %v", err)
			}
		},
	}
	for name, stop := range stoppers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			url, pool := db.URL(postgres.Superuser), admin(t, db)
			if err := migrations.Down(t.Context(), url); err != nil {
				t.Fatal(err)
			}
			// An uncommitted table of the name makes 0003 wait after its first table.
			holder, err := pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := holder.Exec(t.Context(), "CREATE TABLE keys (n int)"); err != nil {
				t.Fatal(err)
			}
			stop(t, url, func() { awaitLock(t, pool) })
			if err := holder.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := migrations.Apply(t.Context(), url); err != nil {
				t.Fatalf("apply after %s: %v", name, err)
			}
			wantVersion(t, url, migrations.Latest())
		})
	}
}

// TestFailedFileLeavesTheVersionBefore: a file that fails is rolled back with its version; the error names the cause, not the file.
func TestFailedFileLeavesTheVersionBefore(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	url, pool := db.URL(postgres.Superuser), admin(t, db)
	if err := migrations.Down(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	exec(t, pool, "CREATE TABLE keys (n int)")
	err := migrations.Apply(t.Context(), url)
	if err == nil || !strings.Contains(err.Error(), `"keys" already exists`) || strings.Contains(err.Error(), "COMMENT ON") {
		t.Errorf("error %v", err)
	}
	wantVersion(t, url, 2)
	if left := list(t, pool, "SELECT coalesce(to_regclass('issue_orders')::text, '')"); left[0] != "" {
		t.Error("half of a file stayed")
	}
	exec(t, pool, "DROP TABLE keys")
	if err := migrations.Apply(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	wantVersion(t, url, migrations.Latest())
}

// TestDirtyVersionIsRepaired: plain golang-migrate, killed half-way, leaves the version of the file that was rolled back.
func TestDirtyVersionIsRepaired(t *testing.T) {
	t.Parallel()
	newest := migrations.Latest()
	names, err := fs.Glob(migrations.Files, fmt.Sprintf("%04d_*.down.sql", newest))
	if err != nil || len(names) != 1 {
		t.Fatalf("newest file: %q, %v", names, err)
	}
	last, err := migrations.Files.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		dirty func(t *testing.T, url string, pool *pgxpool.Pool)
		next  func(ctx context.Context, url string) error
		want  int
	}{
		{"newest on the way up", func(t *testing.T, _ string, pool *pgxpool.Pool) {
			exec(t, pool, string(last))
			exec(t, pool, "UPDATE schema_migrations SET version = $1, dirty = true", newest)
		}, migrations.Apply, migrations.Latest()},
		{"first on the way up", func(t *testing.T, url string, pool *pgxpool.Pool) {
			if err := migrations.Down(t.Context(), url); err != nil {
				t.Fatal(err)
			}
			exec(t, pool, "INSERT INTO schema_migrations (version, dirty) VALUES (1, true)")
		}, migrations.Apply, migrations.Latest()},
		{"on the way down", func(t *testing.T, _ string, pool *pgxpool.Pool) {
			exec(t, pool, "UPDATE schema_migrations SET version = $1, dirty = true", newest-1)
		}, migrations.Down, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			url := db.URL(postgres.Superuser)
			test.dirty(t, url, admin(t, db))
			if err := test.next(t.Context(), url); err != nil {
				t.Fatal(err)
			}
			wantVersion(t, url, test.want)
		})
	}
}

func TestNewerDatabaseIsRefused(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	exec(t, admin(t, db), "UPDATE schema_migrations SET version = 9999")
	if err := migrations.Apply(t.Context(), db.URL(postgres.Superuser)); err == nil || !strings.Contains(err.Error(), "run a newer program") {
		t.Errorf("error %v", err)
	}
}

func TestUnreachableDatabase(t *testing.T) {
	t.Parallel()
	err := migrations.Apply(t.Context(), "postgres://someone:hidden@127.0.0.1:1/x?connect_timeout=1")
	if err == nil || strings.Contains(err.Error(), "hidden") {
		t.Errorf("error %v", err)
	}
	if err := migrations.Apply(t.Context(), "postgres://someone:hidden@:bad port"); err == nil || strings.Contains(err.Error(), "hidden") {
		t.Errorf("error %v", err)
	}
}

func wantVersion(t *testing.T, url string, want int) {
	t.Helper()
	if version, dirty, err := migrations.Version(t.Context(), url); err != nil || version != want || dirty {
		t.Errorf("version %d, dirty %v, %v; want %d", version, dirty, err, want)
	}
}

// awaitLock waits until some session of this database waits for a lock.
func awaitLock(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		var waiting int
		err := pool.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
			AND wait_event_type = 'Lock' AND application_name = 'keyward-migrations'`).Scan(&waiting)
		if err != nil {
			t.Fatalf("nobody waits for the lock: %v", err)
		}
		if waiting > 0 {
			return
		}
	}
}
