package pgpool_test

import (
	"context"
	"testing"
	"time"

	"github.com/keyward/keyward/internal/pgpool"
	"github.com/keyward/keyward/internal/pgtest"
	"github.com/keyward/keyward/migrations"
)

// A follower looks at once and after each notification, and again after its connection was cut.
func TestFollow(t *testing.T) {
	t.Parallel()
	const patience = 20 * time.Second
	pool, err := pgpool.Open(t.Context(), pgtest.New(t).URL(migrations.RolePOSP), 3)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	looks, cuts := make(chan struct{}, 100), make(chan error, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		pgpool.Follow{
			Pool: pool, Channel: "pgpool_test",
			Look: func(context.Context) error { looks <- struct{}{}; return nil },
			Away: func(_ context.Context, cause error) { cuts <- cause }, Back: func(context.Context) {},
		}.Run(ctx)
	}()
	await := func(what string) {
		t.Helper()
		select {
		case <-looks:
		case <-time.After(patience):
			t.Fatalf("no look %s", what)
		}
	}
	run := func(statement string) {
		t.Helper()
		if _, err := pool.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	await("at the start")
	run(`NOTIFY pgpool_test`)
	await("after a notification")
	run(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'LISTEN pgpool_test'`)
	select {
	case cause := <-cuts:
		if cause == nil {
			t.Error("no cause is told")
		}
	case <-time.After(patience):
		t.Fatal("the cut was not noticed")
	}
	await("after the cut")
	run(`NOTIFY pgpool_test`)
	await("after a notification on the new connection")
	cancel()
	<-ended
}
