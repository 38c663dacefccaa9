package pgtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/keyward/keyward/internal/postgres"
	"github.com/keyward/keyward/migrations"
)

const (
	// stopTimeout bounds the end of the private server.
	stopTimeout = 20 * time.Second
	// leftoverAge is the age from which a server directory without an owner counts as left by a killed test run; a younger
	// one may just be about to be locked.
	leftoverAge = 10 * time.Minute
	dirPrefix   = "keyward-pgtest-"
)

// shared starts the server of this binary once.
var shared = sync.OnceValues(startHost)

// hostStarted holds the private server for Main, which must not start one.
var hostStarted struct {
	sync.Mutex
	server *postgres.Server
}

// Main runs the tests, stops the server, looks for leaked goroutines, and returns the exit code for os.Exit.
func Main(m *testing.M) int {
	code := m.Run()
	if err := stopHost(); err != nil {
		fmt.Fprintf(os.Stderr, "pgtest: %v\n", err)
		code = max(code, 1)
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintf(os.Stderr, "pgtest: %v\n", err)
			code = 1
		}
	}
	return code
}

func startHost() (*host, error) {
	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
	defer cancel()
	h := &host{}
	if existing := os.Getenv("KEYWARD_TEST_PG_URL"); existing != "" {
		admin, err := url.Parse(existing)
		if err != nil || admin.User == nil {
			return nil, errors.New("KEYWARD_TEST_PG_URL is not a URL with a user: want postgres://superuser:password@host:port/postgres")
		}
		h.admin = admin
	} else {
		server, err := startServer(ctx)
		if err != nil {
			return nil, err
		}
		h.server = server
		hostStarted.Lock()
		hostStarted.server = server
		hostStarted.Unlock()
	}
	if err := h.makeTemplate(ctx); err != nil {
		return nil, fmt.Errorf("make the template database: %w", err)
	}
	return h, nil
}

func startServer(ctx context.Context) (*postgres.Server, error) {
	removeLeftovers(os.TempDir())
	dir, err := os.MkdirTemp("", dirPrefix)
	if err != nil {
		return nil, fmt.Errorf("create a directory for the server: %w", err)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo})) // an installation takes a while
	server, err := postgres.Start(ctx, postgres.Config{Dir: dir, Fast: true, Log: log})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if taken := filepath.Dir(server.DataDir()); taken != dir {
		_ = os.RemoveAll(dir) // the server took another one; this one is empty but for the lock
	}
	return server, nil
}

func stopHost() error {
	hostStarted.Lock()
	defer hostStarted.Unlock()
	server := hostStarted.server
	if server == nil {
		return nil
	}
	hostStarted.server = nil
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return errors.Join(server.Stop(ctx), os.RemoveAll(filepath.Dir(server.DataDir())))
}

// makeTemplate makes the database that the others are copies of, unless another test binary on an existing server already
// did. Its name is a digest of the migrations; it gets that name when it is complete.
func (h *host) makeTemplate(ctx context.Context) error {
	digest, err := digestMigrations()
	if err != nil {
		return err
	}
	h.template = "keyward_template_" + digest
	draft := h.template + "_draft"

	conn, err := pgx.Connect(ctx, h.url(postgres.Superuser, "postgres"))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock(hashtextextended($1, 0))", "keyward.pgtest"); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	passwords := map[string]string{}
	for _, role := range migrations.ServiceRoles() {
		passwords[role] = h.password(role)
	}
	var exists bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", h.template).Scan(&exists); err != nil {
		return fmt.Errorf("look for the template: %w", err)
	}
	if exists {
		return nil
	}
	steps := []func() error{
		func() error { return h.exec(ctx, "DROP DATABASE IF EXISTS "+quote(draft)+" WITH (FORCE)") },
		func() error { return h.exec(ctx, "CREATE DATABASE "+quote(draft)) },
		func() error { return migrations.Apply(ctx, h.url(postgres.Superuser, draft)) },
		func() error { return migrations.SetPasswords(ctx, h.url(postgres.Superuser, draft), passwords) },
		func() error { return h.exec(ctx, "ALTER DATABASE "+quote(draft)+" RENAME TO "+quote(h.template)) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func digestMigrations() (string, error) {
	names, err := fs.Glob(migrations.Files, "*.sql")
	if err != nil {
		return "", fmt.Errorf("list migrations: %w", err)
	}
	sum := sha256.New()
	for _, name := range names {
		content, err := migrations.Files.ReadFile(name)
		if err != nil {
			return "", fmt.Errorf("read migration: %w", err)
		}
		fmt.Fprintf(sum, "%s %d\n%s", name, len(content), content)
	}
	return hex.EncodeToString(sum.Sum(nil)[:8]), nil
}

// removeLeftovers removes directories of test runs that were killed. A running server holds the lock in its directory.
func removeLeftovers(root string) {
	dirs, err := filepath.Glob(filepath.Join(root, dirPrefix+"*"))
	if err != nil {
		return // only a malformed name of the temporary directory
	}
	for _, dir := range dirs {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() || time.Since(info.ModTime()) < leftoverAge {
			continue
		}
		lock, err := os.Open(filepath.Join(dir, "keyward.lock"))
		if err != nil {
			continue
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			_ = os.RemoveAll(dir) // what cannot be removed is tried again next time
		}
		_ = lock.Close()
	}
}
