package posv

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyward/keyward/internal/httpapi"
)

const (
	// claimTime is how long a key stays claimed without an answer: longer than any call, so what is older was left by a process
	// that died, and whoever comes next takes it over.
	claimTime = 2 * time.Minute
	// keepKeys is how long answers are kept: an operator's retry after lunch finds them.
	keepKeys = 24 * time.Hour
	// keyService is posv's name in the table.
	keyService = "posv"
)

// keyStore keeps the answers of idempotent requests in the database, for all instances of posv.
type keyStore struct{ pool *pgxpool.Pool }

var _ httpapi.Store = (*keyStore)(nil)

// Begin implements httpapi.Store.
func (s *keyStore) Begin(ctx context.Context, key string, digest [sha256.Size]byte) (*httpapi.Response, error) {
	tag, err := s.pool.Exec(ctx, `
INSERT INTO idempotency_keys AS k (service, key, request_digest) VALUES ($1, $2, $3)
    ON CONFLICT (service, key) DO UPDATE SET created_at = now()
 WHERE k.status IS NULL AND k.request_digest = excluded.request_digest AND k.created_at < now() - $4::interval`,
		keyService, stored(key), digest[:], claimTime)
	if err != nil {
		return nil, fmt.Errorf("claim an idempotency key: %w", err)
	}
	if tag.RowsAffected() == 1 {
		return nil, nil
	}
	var had, body []byte
	var status *int
	err = s.pool.QueryRow(ctx, `SELECT request_digest, status, body FROM idempotency_keys WHERE service = $1 AND key = $2`, keyService, stored(key)).Scan(&had, &status, &body)
	switch {
	case errors.Is(err, pgx.ErrNoRows): // released since
		return nil, httpapi.ErrInProgress
	case err != nil:
		return nil, fmt.Errorf("read an idempotency key: %w", err)
	case string(had) != string(digest[:]):
		return nil, httpapi.ErrOtherRequest
	case status == nil:
		return nil, httpapi.ErrInProgress
	}
	kind := "application/json"
	if *status >= http.StatusBadRequest {
		kind = "application/problem+json"
	}
	return &httpapi.Response{Status: *status, Header: http.Header{"Content-Type": {kind}}, Body: body}, nil
}

// Finish implements httpapi.Store.
func (s *keyStore) Finish(ctx context.Context, key string, a httpapi.Response) error {
	return s.claimed(ctx, `UPDATE idempotency_keys SET status = $3, body = $4 WHERE service = $1 AND key = $2 AND status IS NULL`, key, a.Status, a.Body)
}

// Release implements httpapi.Store.
func (s *keyStore) Release(ctx context.Context, key string) error {
	return s.claimed(ctx, `DELETE FROM idempotency_keys WHERE service = $1 AND key = $2 AND status IS NULL`, key)
}

func (s *keyStore) claimed(ctx context.Context, statement, key string, args ...any) error {
	tag, err := s.pool.Exec(ctx, statement, append([]any{keyService, stored(key)}, args...)...)
	if err == nil && tag.RowsAffected() != 1 {
		err = errors.New("idempotency key is not claimed")
	}
	return err
}

// purge removes what nobody asks for any more.
func (s *keyStore) purge(ctx context.Context) error {
	_, err := s.pool.Exec(ctx, `DELETE FROM idempotency_keys WHERE service = $1 AND created_at < now() - $2::interval`, keyService, keepKeys)
	return err
}

// stored is a key as text without the zero byte that separates its parts, which PostgreSQL does not take.
func stored(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// idempotent repeats the answer of a request that carries an Idempotency-Key. The key is optional here: all that it protects from is a
// second draft, which harms nobody.
func (a *App) idempotent(h httpapi.HandlerFunc) http.Handler {
	kept := httpapi.Idempotency(a.keys, func(r *http.Request) string { return actorOf(r.Context()).name })(h)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Idempotency-Key") == "" {
			h.ServeHTTP(w, r)
			return
		}
		kept.ServeHTTP(w, r)
	})
}
