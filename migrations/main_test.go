package migrations_test

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyward/keyward/internal/pgtest"
	"github.com/keyward/keyward/internal/postgres"
	"github.com/keyward/keyward/migrations"
)

// applyURL, when set, makes the test binary a service that migrates and may be killed half-way.
const applyURL = "KEYWARD_TEST_APPLY_URL"

func TestMain(m *testing.M) {
	if url := os.Getenv(applyURL); url != "" {
		if err := migrations.Apply(context.Background(), url); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(pgtest.Main(m))
}

// admin returns a pool of the superuser.
func admin(t *testing.T, db *pgtest.DB) *pgxpool.Pool {
	t.Helper()
	return db.Pool(t, postgres.Superuser)
}

func exec(t *testing.T, pool *pgxpool.Pool, statement string, args ...any) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// list returns the first column of a query.
func list(t *testing.T, pool *pgxpool.Pool, query string, args ...any) []string {
	t.Helper()
	rows, err := pool.Query(t.Context(), query, args...)
	if err != nil {
		t.Fatal(err)
	}
	values, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return values
}

// sqlState returns the SQLSTATE of an error, "" for none and "?" for one that is not PostgreSQL's.
func sqlState(err error) string {
	var pgErr *pgconn.PgError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &pgErr):
		return pgErr.Code
	default:
		return "?"
	}
}
