// Package pgtest gives a test its own migrated PostgreSQL database on a server that all tests of one binary share.
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
//
//	func TestLedger(t *testing.T) {
//		t.Parallel()
//		pool := pgtest.New(t).Pool(t, migrations.RolePOSP)
//		…
//	}
//
// The server starts at the first New and ends in Main. Each database is a copy of one that was migrated once. With
// KEYWARD_TEST_PG_URL set to the connection string of a superuser, that server is used instead of a private one. Where no
// PostgreSQL can be had, tests are skipped with the reason, or fail when CI=true. For tests only.
package pgtest

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyward/keyward/internal/postgres"
)

const (
	// setupTimeout bounds the making of one database, the first start of the server included.
	setupTimeout = 2 * time.Minute
	// dropTimeout bounds the removal of one database.
	dropTimeout = 30 * time.Second
	// poolSize bounds the connections of one pool: many parallel tests share the 100 connections of the server.
	poolSize = 8
)

// DB is the database of one test.
type DB struct {
	host *host
	name string
}

// New makes a migrated, empty database for the test and drops it at the end. It may be called from parallel tests.
func New(t testing.TB) *DB {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), setupTimeout)
	defer cancel()
	h, err := shared()
	if errors.Is(err, postgres.ErrUnavailable) && os.Getenv("CI") != "true" {
		t.Skipf("no database: %v", err)
	}
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	db := &DB{host: h, name: h.nextName()}
	if err := h.exec(ctx, "CREATE DATABASE "+quote(db.name)+" TEMPLATE "+quote(h.template)); err != nil {
		t.Fatalf("pgtest: create database: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), dropTimeout)
		defer cancel()
		// FORCE, because a test that failed may have left a connection. A server that the test itself killed for good has
		// nothing to drop.
		if err := h.exec(ctx, "DROP DATABASE IF EXISTS "+quote(db.name)+" WITH (FORCE)"); err != nil {
			t.Logf("pgtest: drop database %s: %v", db.name, err)
		}
	})
	return db
}

// URL returns the connection string of the role for this database: a role of the package migrations, or
// postgres.Superuser. It holds the password: never log it.
func (db *DB) URL(role string) string { return db.host.url(role, db.name) }

// Pool returns a pool of connections as the role, closed at the end of the test.
func (db *DB) Pool(t testing.TB, role string) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(db.URL(role))
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	config.MaxConns = poolSize
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// Server returns the private server that the tests of this binary share, or nil with KEYWARD_TEST_PG_URL. A test that kills
// or restarts it must not run in parallel with others; a test that does so at length starts its own by postgres.Start.
func (db *DB) Server() *postgres.Server { return db.host.server }

// host is the server of this test binary.
type host struct {
	server   *postgres.Server // nil for an existing server
	admin    *url.URL         // superuser, database postgres
	template string
	last     atomic.Int64
}

// url returns the connection string of a role for a database. On an existing server the passwords are derived from its
// connection string, so that several test binaries at once agree on them.
func (h *host) url(role, database string) string {
	if h.server != nil {
		return h.server.URL(role, database)
	}
	u := *h.admin
	u.Path = "/" + database
	if role != postgres.Superuser {
		u.User = url.UserPassword(role, h.password(role))
	}
	return u.String()
}

func (h *host) password(role string) string {
	if h.server != nil {
		return h.server.Password(role)
	}
	mac := hmac.New(sha256.New, []byte(h.admin.String()))
	mac.Write([]byte(role))
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

// nextName names a database uniquely over test binaries that share a server.
func (h *host) nextName() string {
	return fmt.Sprintf("keyward_test_%d_%d_%d", os.Getpid(), started, h.last.Add(1))
}

// started tells apart binaries that have the same process number in different containers.
var started = time.Now().UnixNano()

// exec runs one statement as superuser in the database postgres.
func (h *host) exec(ctx context.Context, statement string) error {
	conn, err := pgx.Connect(ctx, h.url(postgres.Superuser, "postgres"))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(strings.Fields(statement)[:2], " "), err)
	}
	return nil
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }
