package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/golang-migrate/migrate/v4"
	"github.com/golang-migrate/migrate/v4/database"
	migratepgx "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

const (
	// lockTimeout bounds each wait for a lock: for another starter, and for readers of a table that a file changes. It is
	// set on the connection, so it also covers the lock that golang-migrate takes inside its constructor (issue 269).
	lockTimeout = 60 * time.Second

	// starterLock is the advisory lock (per database) that one starter holds from reading the version to the end. The lock of
	// golang-migrate alone is not enough: it is released between finding a dirty version and forcing the previous one, so a
	// second starter could force the version back after the first had finished.
	starterLock int64 = 0x6B657977617264 // "keyward" in ASCII
)

// migrator is one connected run.
type migrator struct {
	migrate *migrate.Migrate
	driver  database.Driver
}

// step runs one file up (+1) or down (-1). One at a time, because golang-migrate reads ahead otherwise and leaves the
// goroutines of its reading behind when a file fails.
func (m *migrator) step(n int) error { return redacted(m.migrate.Steps(n)) }

// force marks a version as the present one. Safe only because every file is one transaction, and because withMigrator keeps
// every other starter out from the look to the repair.
func (m *migrator) force(version int) error { return redacted(m.migrate.Force(version)) }

// withMigrator runs work with a migrator for url while holding starterLock. Cancelling ctx breaks the network connections,
// because golang-migrate itself knows no context: PostgreSQL then rolls the file under way back.
func withMigrator(ctx context.Context, url string, work func(*migrator) error) (err error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return fmt.Errorf("migrations: parse database url: %w", err) // pgx redacts the password
	}
	config.RuntimeParams["lock_timeout"] = fmt.Sprint(lockTimeout.Milliseconds())
	config.RuntimeParams["application_name"] = "keyward-migrations"
	dial := config.DialFunc
	conns := &connections{}
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return conns.add(conn)
	}
	defer context.AfterFunc(ctx, conns.breakAll)()
	defer func() {
		if cause := context.Cause(ctx); err != nil && cause != nil {
			err = fmt.Errorf("%w (%w)", err, cause)
		}
	}()

	lock, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("migrations: connect: %w", err)
	}
	defer func() { _ = lock.Close(context.WithoutCancel(ctx)) }() // closing the session releases the lock
	if _, err := lock.Exec(ctx, "SELECT pg_advisory_lock($1)", starterLock); err != nil {
		return fmt.Errorf("migrations: wait for another starter: %w", err)
	}

	db := stdlib.OpenDB(*config)
	defer func() { _ = db.Close() }()
	m, err := newMigrator(db)
	if err != nil {
		return err
	}
	return errors.Join(work(m), m.close())
}

func newMigrator(db *sql.DB) (*migrator, error) {
	files, err := iofs.New(Files, ".")
	if err != nil {
		return nil, fmt.Errorf("migrations: read embedded files: %w", err)
	}
	driver, err := migratepgx.WithInstance(db, &migratepgx.Config{})
	if err != nil {
		return nil, fmt.Errorf("migrations: prepare the version table: %w", redacted(err))
	}
	atomic := &atomicDriver{Driver: driver}
	m, err := migrate.NewWithInstance("iofs", files, "pgx5", atomic)
	if err != nil {
		return nil, fmt.Errorf("migrations: %w", err)
	}
	m.LockTimeout = lockTimeout + time.Second // the server gives up first, with the clearer error
	return &migrator{migrate: m, driver: atomic}, nil
}

func (m *migrator) close() error {
	sourceErr, databaseErr := m.migrate.Close()
	if err := errors.Join(sourceErr, databaseErr); err != nil {
		return fmt.Errorf("migrations: close: %w", err)
	}
	return nil
}

// redacted drops the text of the migration from an error of the driver, which would print the whole file.
func redacted(err error) error {
	if e := (database.Error{}); errors.As(err, &e) {
		return fmt.Errorf("%s (line %d): %w", e.Err, e.Line, e.OrigErr)
	}
	if e := (*database.Error)(nil); errors.As(err, &e) {
		return fmt.Errorf("%s: %w", e.Err, e.OrigErr)
	}
	return err
}

// connections remembers the network connections of one run, so that a cancelled context can break them.
type connections struct {
	mu     sync.Mutex
	open   []net.Conn
	broken bool
}

func (c *connections) add(conn net.Conn) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken {
		return nil, errors.Join(net.ErrClosed, conn.Close())
	}
	c.open = append(c.open, conn)
	return conn, nil
}

func (c *connections) breakAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken = true
	for _, conn := range c.open {
		_ = conn.Close() // an error here only says that it was closed already
	}
}
