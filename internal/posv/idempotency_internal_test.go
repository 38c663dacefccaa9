package posv

import (
	"errors"
	"testing"

	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/internal/pgtest"
	"github.com/keyward/keyward/migrations"
)

// TestClaimOfADeadProcess: a key that was claimed by a process that died is taken over after a while, by the same request only; old
// answers are removed.
func TestClaimOfADeadProcess(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t).Pool(t, migrations.RolePOSV)
	s := &keyStore{pool: pool}
	ctx, digest, other := t.Context(), [32]byte{1}, [32]byte{2}
	age := func(interval string) {
		t.Helper()
		if _, err := pool.Exec(ctx, "UPDATE idempotency_keys SET created_at = now() - $1::interval", interval); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.Begin(ctx, "a\x00k", digest); got != nil || err != nil {
		t.Fatalf("%v, %v", got, err)
	}
	if _, err := s.Begin(ctx, "a\x00k", digest); !errors.Is(err, httpapi.ErrInProgress) {
		t.Fatalf("%v", err)
	}
	age("3 minutes")
	if _, err := s.Begin(ctx, "a\x00k", other); !errors.Is(err, httpapi.ErrOtherRequest) {
		t.Fatalf("%v", err)
	}
	if got, err := s.Begin(ctx, "a\x00k", digest); got != nil || err != nil {
		t.Fatalf("the key stays claimed: %v, %v", got, err)
	}
	if err := s.Finish(ctx, "a\x00k", httpapi.Response{Status: 201, Body: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	if err := s.Finish(ctx, "a\x00k", httpapi.Response{Status: 200}); err == nil {
		t.Error("finished twice")
	}
	if err := s.Release(ctx, "a\x00k"); err == nil {
		t.Error("an answer was given up")
	}
	if err := s.purge(ctx); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Begin(ctx, "a\x00k", digest); err != nil || got == nil || got.Status != 201 {
		t.Fatalf("%v, %v", got, err)
	}
	age("25 hours")
	if err := s.purge(ctx); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Begin(ctx, "a\x00k", digest); got != nil || err != nil {
		t.Fatalf("an old answer is still there: %v, %v", got, err)
	}
	if err := s.Release(ctx, "a\x00k"); err != nil {
		t.Fatal(err)
	}
}
