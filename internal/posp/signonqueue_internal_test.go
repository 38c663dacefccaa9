package posp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// storm puts n sign-ons of a merchant into the queue and waits until they wait.
func storm(ctx context.Context, q *signOnQueue, merchant string, n int, order chan<- string) {
	for range n {
		go func() {
			release, err := q.enter(ctx, merchant)
			switch {
			case err == nil:
				order <- merchant
				<-ctx.Done() // holds its place until the test ends
				release()
			case errors.Is(err, errSignOns):
				order <- "refused " + merchant
			}
		}()
	}
	synctest.Wait()
}

// TestMerchantsTakeTurns: a chain with hundreds of terminals does not keep a corner shop out.
func TestMerchantsTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		q := newSignOnQueue(func() int { return 0 })
		order := make(chan string, 1000)
		storm(ctx, q, "chain", maxSignOns+100, order)
		if running, waiting := q.standing(); running != maxSignOns || waiting != 100 {
			t.Fatalf("%d run, %d wait", running, waiting)
		}
		storm(ctx, q, "shop", 2, order)
		for range maxSignOns {
			<-order
		}
		for i, want := range []string{"chain", "shop", "chain", "shop", "chain", "chain"} {
			q.release()
			if got := <-order; got != want {
				t.Fatalf("turn %d went to %s, want %s", i, got, want)
			}
		}
	})
}

// TestTransactionsFirst: while a transaction is under way few sign-ons are, and the others go on when it ends.
func TestTransactionsFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		var transactions atomic.Int64
		transactions.Store(1)
		q := newSignOnQueue(func() int { return int(transactions.Load()) })
		order := make(chan string, 1000)
		storm(ctx, q, "chain", 50, order)
		if running, waiting := q.standing(); running != signOnsBeside || waiting != 50-signOnsBeside {
			t.Fatalf("beside a transaction %d run, %d wait", running, waiting)
		}
		transactions.Store(0)
		q.wake()
		synctest.Wait()
		if running, waiting := q.standing(); running != 50 || waiting != 0 {
			t.Fatalf("without transactions %d run, %d wait", running, waiting)
		}
	})
}

// TestQueueIsBounded: a full queue turns the youngest of the largest merchant away for a newcomer of another, and newcomers of the
// largest itself; who waits too long is refused, and everything is given back.
func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		q := newSignOnQueue(func() int { return 0 })
		order := make(chan string, 2*maxSignOnsWaiting)
		storm(ctx, q, "chain", maxSignOns+maxSignOnsWaiting, order)
		for range maxSignOns {
			<-order
		}
		storm(ctx, q, "chain", 1, order)
		if got := <-order; got != "refused chain" {
			t.Fatalf("one too many: %s", got)
		}
		storm(ctx, q, "shop", 1, order)
		if got := <-order; got != "refused chain" {
			t.Fatalf("for the shop: %s", got)
		}
		if _, waiting := q.standing(); waiting != maxSignOnsWaiting {
			t.Fatalf("%d wait", waiting)
		}
		time.Sleep(signOnWait + time.Second) // of the bubble's clock
		synctest.Wait()
		if _, waiting := q.standing(); waiting != 0 || len(q.merchant) != 0 || len(q.turns) != 0 {
			t.Fatalf("%d wait, %d merchants and %d turns are left", waiting, len(q.merchant), len(q.turns))
		}
		if len(order) != maxSignOnsWaiting {
			t.Fatalf("%d refusals, want %d", len(order), maxSignOnsWaiting)
		}
	})
}

func TestRates(t *testing.T) {
	t.Parallel()
	r, now := newRates(10), time.Unix(1_800_000_000, 0)
	key := rateKey{terminal: "10000001"}
	for i := range 10 * rateBurst {
		if !r.allow(key, now) {
			t.Fatalf("message %d of a burst is refused", i)
		}
	}
	if r.allow(key, now) {
		t.Fatal("one more than the burst is allowed")
	}
	for _, other := range []rateKey{{terminal: "10000002"}, {terminal: "10000001", reversal: true}, {terminal: "10000001", source: netip.MustParseAddr("10.0.0.1")}} {
		if !r.allow(other, now) {
			t.Errorf("%+v is held for another's messages", other)
		}
	}
	if now = now.Add(100 * time.Millisecond); !r.allow(key, now) || r.allow(key, now) {
		t.Error("a tenth of a second is not worth one message")
	}
	for i := range maxRates {
		r.allow(rateKey{terminal: fmt.Sprint(i)}, now)
	}
	if len(r.paid) > maxRates {
		t.Errorf("%d senders are remembered", len(r.paid))
	}
}
