// Package pgpool opens a service's connections to PostgreSQL, with errors that say what to do and never show the connection string.
package pgpool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyward/keyward/internal/service"
)

// retryEvery is how often a database that does not answer is asked again: often enough that a start right after the
// database's own loses no noticeable time.
const retryEvery = 250 * time.Millisecond

// FromConfig is Open with a service's settings; the connection string is read from its file.
func FromConfig(ctx context.Context, cfg service.DatabaseConfig) (*pgxpool.Pool, error) {
	url, err := cfg.URLFile.Read()
	if err != nil {
		return nil, fmt.Errorf("database.url_file: %w", err)
	}
	defer url.Wipe()
	return Open(ctx, string(url.Reveal()), cfg.MaxConnections)
}

// Lazy makes a pool that connects when it is first used, for parts that must work while the database is away. Its errors are those of
// Open.
func Lazy(url string, maxConns int32) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		// The parser's error repeats the connection string, password included.
		return nil, errors.New("database: the connection string cannot be read; it must look like postgres://user:password@host:port/database")
	}
	// A plan that PostgreSQL keeps for a prepared statement is made for the tables as they are at that moment. On a fresh database
	// they are empty, and the plan that suits them reads every row later: it took the journal's commits from 3 ms to 40 ms.
	cfg.ConnConfig.RuntimeParams["plan_cache_mode"] = "force_custom_plan"
	if maxConns > 0 {
		cfg.MaxConns = maxConns
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	return pool, nil
}

// Open connects to PostgreSQL, waiting for it until ctx ends. maxConns bounds the connections; zero leaves the driver's default. url
// is a connection string and holds a password: errors do not repeat it.
func Open(ctx context.Context, url string, maxConns int32) (*pgxpool.Pool, error) {
	pool, err := Lazy(url, maxConns)
	if err != nil {
		return nil, err
	}
	for {
		if err = pool.Ping(ctx); err == nil {
			return pool, nil
		}
		select {
		case <-time.After(retryEvery):
		case <-ctx.Done():
			pool.Close()
			return nil, fmt.Errorf("the database does not answer; check that PostgreSQL runs and database.url_file is right: %w", err)
		}
	}
}
