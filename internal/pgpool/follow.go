package pgpool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// followEvery finds what a lost notification would have told. Notifications are the fast way.
	followEvery = 10 * time.Second
	// followTimeout bounds connecting and each statement of following.
	followTimeout = 5 * time.Second
	// followMin and followMax are the pauses while the database is away.
	followMin = 200 * time.Millisecond
	followMax = 5 * time.Second
)

// Follow keeps an instance with what others write: it looks at once, after each notification, and every 10 s as a net under lost ones.
type Follow struct {
	Pool *pgxpool.Pool // one connection is taken out of it for good, because it listens
	// Channel is the name that triggers notify: a constant, it stands in the statement as it is.
	Channel string
	// Look reads what is new. An error means that the database does not answer; the connection is then made anew, after a pause.
	Look func(ctx context.Context) error
	// Away hears why following was interrupted, each time; Back hears of each look that went well.
	Away func(ctx context.Context, cause error)
	Back func(ctx context.Context)
}

// Run follows until ctx ends.
func (f Follow) Run(ctx context.Context) {
	wait := followMin
	for ctx.Err() == nil {
		began := time.Now()
		err := f.listen(ctx)
		if ctx.Err() != nil {
			return
		}
		f.Away(ctx, err)
		if time.Since(began) > followMax {
			wait = followMin
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, followMax)
	}
}

// listen holds a connection that is notified until it fails or ctx ends.
func (f Follow) listen(ctx context.Context) error {
	conn, err := f.connect(ctx)
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), followTimeout)
		defer cancel()
		_ = conn.Close(closing) // the server notices by itself
	}()
	for {
		if err := f.Look(ctx); err != nil {
			return err
		}
		f.Back(ctx)
		waiting, cancel := context.WithTimeout(ctx, followEvery)
		_, err := conn.WaitForNotification(waiting)
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && !errors.Is(err, context.DeadlineExceeded) && !pgconn.Timeout(err):
			return err
		}
	}
}

// connect takes a connection of its own out of the pool: what listens is not given back to others.
func (f Follow) connect(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, followTimeout)
	defer cancel()
	pooled, err := f.Pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	conn := pooled.Hijack()
	if _, err := conn.Exec(ctx, "LISTEN "+f.Channel); err != nil {
		_ = conn.Close(ctx)
		return nil, fmt.Errorf("listen: %w", err)
	}
	return conn, nil
}
