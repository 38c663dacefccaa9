package pgtest_test

import (
	"os"
	"strings"
	"testing"

	"github.com/keyward/keyward/internal/pgtest"
	"github.com/keyward/keyward/internal/postgres"
	"github.com/keyward/keyward/migrations"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func TestDatabasesAreIsolated(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"one", "two", "three", "four"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := pgtest.New(t).Pool(t, migrations.RolePOSV)
			if _, err := pool.Exec(t.Context(), "INSERT INTO merchants (merchant_id, name) VALUES ('104110000000001', $1)", name); err != nil {
				t.Fatal(err)
			}
			var names string
			if err := pool.QueryRow(t.Context(), "SELECT string_agg(name, ',') FROM merchants").Scan(&names); err != nil || names != name {
				t.Fatalf("merchants of this database: %q, %v; want %q", names, err, name)
			}
		})
	}
}

func TestEveryRoleLogsInAsItself(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	for _, role := range append(migrations.ServiceRoles(), postgres.Superuser) {
		var name string
		if err := db.Pool(t, role).QueryRow(t.Context(), "SELECT session_user").Scan(&name); err != nil || name != role {
			t.Errorf("role %s logs in as %q, %v", role, name, err)
		}
	}
}

func TestDatabaseIsDroppedAtCleanup(t *testing.T) {
	t.Parallel()
	var name string
	t.Run("use", func(t *testing.T) {
		db := pgtest.New(t)
		if err := db.Pool(t, migrations.RolePOSP).QueryRow(t.Context(), "SELECT current_database()").Scan(&name); err != nil {
			t.Fatal(err)
		}
	})
	if t.Failed() || !strings.HasPrefix(name, "keyward_test_") {
		t.Skip("the database could not be made")
	}
	var left int
	if err := pgtest.New(t).Pool(t, postgres.Superuser).QueryRow(t.Context(), "SELECT count(*) FROM pg_database WHERE datname = $1", name).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d databases left, %v", left, err)
	}
}

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		pgtest.New(b)
	}
}
