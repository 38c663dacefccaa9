package rewrap

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/keyward/keyward/hsmclient/command"
)

// Follow makes the twin of one key at once, with the same proof as every key: two keys of one command may be in different domains for the
// moment, one of them made so lately that the background has not come to it. The error is ErrNotFound when no open job leads to the domain.
func (e *Engine) Follow(ctx context.Context, key int64, domain string) error {
	// Somebody waits for this one.
	ctx = command.WithPriority(ctx, command.SignOn)
	open, err := e.store.jobs(ctx, e.store.pool, true)
	if err != nil {
		return err
	}
	for _, j := range open {
		if j.To != domain || !j.State.copies() || e.can(j.Method) != nil {
			continue
		}
		k, err := e.store.oneUnproven(ctx, j, key)
		if errors.Is(err, pgx.ErrNoRows) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read key %d: %w", key, err)
		}
		r := e.prove(ctx, j, k)
		if err := e.recordBatch(ctx, j, []result{r}); err != nil {
			return err
		}
		return r.err
	}
	return fmt.Errorf("twin of key %d in LMK domain %s: %w", key, domain, ErrNotFound)
}

// oneUnproven is unproven for one key.
func (s *store) oneUnproven(ctx context.Context, j Job, key int64) (stored, error) {
	list, err := s.unproven(ctx, s.pool, j, key-1, 1)
	if err != nil {
		return stored{}, err
	}
	if len(list) == 0 || list[0].id != key {
		return stored{}, pgx.ErrNoRows
	}
	return list[0], nil
}
