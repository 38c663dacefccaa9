// Package domains tells the key service which LMK domains this posp is configured for: its group of HSMs, and each key of the configuration
// with its twins. So no card's key is switched to a domain in which this posp has no device or no zone key, and no old domain is retired that
// it still needs (C7, X13). No key goes into the table, only names.
package domains

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyward/keyward/keys"
)

const (
	// Group is the place of the group of HSMs; every other place is a setting that holds a key.
	Group = "hsm"
	// renewEvery is how often the rows are written again. They count for a day after the last time (internal/rewrap), so that an hour's outage
	// of the database changes nothing.
	renewEvery = 10 * time.Minute
	// writeTimeout bounds one write.
	writeTimeout = 5 * time.Second
)

// Place is one part of the configuration that belongs to LMK domains.
type Place struct {
	Name    string     // Group, or the setting of a key: hosts.bank.zpk, seal_key
	Usage   keys.Usage // of a key
	Domains []string   // that of the setting first, then those of its twins
}

// Teller writes the places of one instance at start, and again and again. Use it once: New, Start, Stop.
type Teller struct {
	pool     *pgxpool.Pool
	instance string
	places   []Place
	log      *slog.Logger
	cancel   context.CancelFunc
	done     chan struct{}
}

// New makes a teller on posp's role.
func New(pool *pgxpool.Pool, instance string, places []Place, log *slog.Logger) *Teller {
	return &Teller{pool: pool, instance: instance, places: places, log: log, done: make(chan struct{})}
}

// Start writes the places and keeps them fresh in the background. It fails when the first writing does.
func (t *Teller) Start(ctx context.Context) error {
	if err := t.write(ctx); err != nil {
		return err
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	t.cancel = cancel
	go t.run(run)
	return nil
}

// Stop ends the background work. The rows stay: a posp that is stopped for an hour still counts.
func (t *Teller) Stop(ctx context.Context) error {
	if t.cancel == nil {
		return nil
	}
	t.cancel()
	select {
	case <-t.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop telling the LMK domains: %w", ctx.Err())
	}
}

func (t *Teller) run(ctx context.Context) {
	defer close(t.done)
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := t.write(ctx); err != nil && ctx.Err() == nil {
			t.log.WarnContext(ctx, "the key service cannot be told the LMK domains now", "error", err)
		}
	}
}

// write replaces the rows of the instance.
func (t *Teller) write(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	err := pgx.BeginFunc(ctx, t.pool, func(tx pgx.Tx) error {
		names := make([]string, len(t.places))
		for i, p := range t.places {
			names[i] = p.Name
		}
		if _, err := tx.Exec(ctx, `DELETE FROM posp_domains WHERE instance_id = $1 AND NOT place = ANY ($2)`, t.instance, names); err != nil {
			return err
		}
		for _, p := range t.places {
			usage := ""
			if p.Name != Group {
				usage = p.Usage.String()
			}
			if _, err := tx.Exec(ctx, `INSERT INTO posp_domains (instance_id, place, usage, domains) VALUES ($1, $2, $3, $4)
				ON CONFLICT (instance_id, place) DO UPDATE SET usage = excluded.usage, domains = excluded.domains, seen_at = now()`,
				t.instance, p.Name, usage, p.Domains); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("tell the LMK domains of this instance: %w", err)
	}
	return nil
}
