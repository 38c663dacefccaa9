// Package hosttest is the conformance suite for implementations of host.Host. It runs against a real peer on a real socket, and
// asks above all whether the outcome of each exchange is exact, because outcomes decide about money. A new downstream is done when
// Run passes.
package hosttest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyward/keyward/internal/posp/host"
	"github.com/keyward/keyward/internal/txn"
)

// Behaviour is how the peer treats financial messages from now on.
type Behaviour string

// The behaviours. With all but Loses the peer does what the message asks for, so money moves.
const (
	Good        Behaviour = "good"         // as it should
	Silent      Behaviour = "silent"       // no answer
	Loses       Behaviour = "loses"        // the message never arrives
	WrongMAC    Behaviour = "wrong mac"    // the answer's MAC is wrong
	WrongAmount Behaviour = "wrong amount" // the answer names another amount, rightly MACed
	WrongTrace  Behaviour = "wrong trace"  // the answer names another trace, rightly MACed
	Cuts        Behaviour = "cuts"         // half an answer, then the connection ends
	Hangs       Behaviour = "hangs up"     // the connection ends instead of an answer
	Doubles     Behaviour = "doubles"      // every answer comes twice
	Holds       Behaviour = "holds"        // answers wait for Release
	Gone        Behaviour = "gone"         // the peer is not there at all
)

// Peer is a connected, signed-on host with its peer. Each call of the function given to Run makes a fresh one; its end is
// registered with t.Cleanup.
type Peer struct {
	Host host.Host
	// Behave sets the behaviour for messages that arrive from now on. After Gone it returns when the connection has ended.
	Behave func(Behaviour)
	// AwaitHeld returns when an answer is held (Holds); Release sends all that are held.
	AwaitHeld, Release func()
	// Purchase makes a purchase that the peer approves; different numbers (1 to 999) give different transactions.
	Purchase func(n int) host.Request
	// Unaffordable makes a purchase that the peer declines with code 51.
	Unaffordable func(n int) host.Request
	// Taken is the sum of money that the peer has booked and not reversed, in fen.
	Taken func() int64
	// Kinds are the kinds that this downstream serves besides purchase and balance inquiry; the suite tries each. Held is the sum that the
	// peer holds for pre-authorizations, in fen; it is needed where Kinds is.
	Kinds []txn.Kind
	Held  func() int64
}

const (
	// patience bounds every wait that ends well; it is reached only when something is broken.
	patience = 10 * time.Second
	// short is how long the suite waits for an answer that must not come.
	short = 250 * time.Millisecond
)

// UndoOf makes the reversal of a request, as posp would.
func UndoOf(req host.Request, try int) host.Reversal {
	return host.Reversal{
		Kind: req.Kind, Trace: req.Trace, RRN: req.RRN, SentAt: req.SentAt, Terminal: req.Terminal, Merchant: req.Merchant, PAN: req.PAN, Expiry: req.Expiry,
		ProcCode: req.ProcCode, Amount: req.Amount, Currency: req.Currency, EntryMode: req.EntryMode, Condition: req.Condition,
		Cause: "98", Try: try,
	}
}

// AwaitReady returns when the host is connected and signed on.
func AwaitReady(tb testing.TB, h host.Host) {
	tb.Helper()
	tick := time.NewTicker(2 * time.Millisecond) // Ready has no signal: production code never waits for it
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		err := h.Ready()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			tb.Fatalf("host is not ready: %v", err)
		}
	}
}

// Run runs the suite.
func Run(t *testing.T, open func(t *testing.T) Peer) {
	t.Run("outcomes", func(t *testing.T) { t.Parallel(); outcomes(t, open) })
	t.Run("not connected", func(t *testing.T) { t.Parallel(); notConnected(t, open(t)) })
	t.Run("connection ends", func(t *testing.T) { t.Parallel(); connectionEnds(t, open) })
	t.Run("no time left", func(t *testing.T) { t.Parallel(); noTimeLeft(t, open(t)) })
	t.Run("late answer", func(t *testing.T) { t.Parallel(); lateAnswer(t, open(t)) })
	t.Run("double answer", func(t *testing.T) { t.Parallel(); doubleAnswer(t, open(t)) })
	t.Run("reversal", func(t *testing.T) { t.Parallel(); reversal(t, open(t)) })
	t.Run("reversal without original", func(t *testing.T) { t.Parallel(); withoutOriginal(t, open(t)) })
	t.Run("kinds", func(t *testing.T) { t.Parallel(); kinds(t, open) })
	t.Run("without its original", func(t *testing.T) { t.Parallel(); withoutItsOriginal(t, open(t)) })
	t.Run("many at once", func(t *testing.T) { t.Parallel(); manyAtOnce(t, open(t)) })
}

// outcomes: what comes of one purchase, and that its reversal always puts the money back.
func outcomes(t *testing.T, open func(t *testing.T) Peer) {
	tests := []struct {
		behave  Behaviour
		want    txn.Outcome
		booked  bool
		wantErr error
	}{
		{behave: Good, want: txn.Answered, booked: true},
		{behave: Silent, want: txn.Unknown, booked: true, wantErr: context.DeadlineExceeded},
		{behave: Loses, want: txn.Unknown, wantErr: context.DeadlineExceeded},
		{behave: WrongMAC, want: txn.Unknown, booked: true, wantErr: host.ErrMAC},
		{behave: WrongAmount, want: txn.Unknown, booked: true},
		{behave: WrongTrace, want: txn.Unknown, booked: true},
		{behave: Cuts, want: txn.Unknown, booked: true},
		{behave: Hangs, want: txn.Unknown, booked: true},
	}
	for _, test := range tests {
		t.Run(string(test.behave), func(t *testing.T) {
			t.Parallel()
			p := open(t)
			p.Behave(test.behave)
			req := p.Purchase(1)
			wait := short
			if test.want == txn.Answered {
				wait = patience
			}
			result := exchange(t, p.Host, req, wait)
			check(t, result, test.want, "00", test.wantErr)
			p.Behave(Good)
			if got := p.Taken(); (got == req.Amount) != test.booked {
				t.Fatalf("the peer took %d, booked should be %v", got, test.booked)
			}
			undone := undoSoon(t, p.Host, req)
			code := "00"
			if !test.booked {
				code = "25"
			}
			check(t, undone, txn.Answered, code, nil)
			if got := p.Taken(); got != 0 {
				t.Errorf("after the reversal the peer still has %d", got)
			}
		})
	}
	t.Run("declined", func(t *testing.T) {
		t.Parallel()
		p := open(t)
		result := exchange(t, p.Host, p.Unaffordable(1), patience)
		check(t, result, txn.Answered, "51", nil)
		if result.Reply.Approved() || result.Reply.AuthCode != "" || p.Taken() != 0 {
			t.Errorf("declined, but %+v, taken %d", result.Reply, p.Taken())
		}
	})
}

func notConnected(t *testing.T, p Peer) {
	p.Behave(Gone)
	if p.Host.Ready() == nil {
		t.Error("ready without a peer")
	}
	check(t, exchange(t, p.Host, p.Purchase(1), patience), txn.NotSent, "", nil)
	check(t, undo(t, p.Host, UndoOf(p.Purchase(1), 1), patience), txn.NotSent, "", nil)
	p.Behave(Good)
	AwaitReady(t, p.Host)
	check(t, exchange(t, p.Host, p.Purchase(1), patience), txn.Answered, "00", nil)
}

// connectionEnds: the peer goes away while an answer is awaited; the host comes back by itself.
func connectionEnds(t *testing.T, open func(t *testing.T) Peer) {
	p := open(t)
	p.Behave(Holds)
	done := make(chan host.Result, 1)
	req := p.Purchase(1)
	go func() { done <- exchange(t, p.Host, req, patience) }()
	p.AwaitHeld()
	p.Behave(Gone)
	check(t, <-done, txn.Unknown, "", nil)
	p.Behave(Good)
	check(t, undoSoon(t, p.Host, req), txn.Answered, "00", nil)
}

func noTimeLeft(t *testing.T, p Peer) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	check(t, p.Host.Exchange(ctx, p.Purchase(1)), txn.NotSent, "", nil)
	check(t, p.Host.Reverse(ctx, UndoOf(p.Purchase(1), 1)), txn.NotSent, "", nil)
	if got := p.Taken(); got != 0 {
		t.Errorf("not sent, but the peer took %d", got)
	}
}

// lateAnswer: an answer that comes after its request was given up is not the answer of the next one.
func lateAnswer(t *testing.T, p Peer) {
	p.Behave(Holds)
	first, second := p.Purchase(1), p.Purchase(2)
	check(t, exchange(t, p.Host, first, short), txn.Unknown, "", context.DeadlineExceeded)
	done := make(chan host.Result, 1)
	p.AwaitHeld()
	p.Behave(Silent)
	go func() { done <- exchange(t, p.Host, second, 2*short) }()
	p.Release()
	check(t, <-done, txn.Unknown, "", context.DeadlineExceeded)
	p.Behave(Good)
	result := exchange(t, p.Host, p.Purchase(3), patience)
	check(t, result, txn.Answered, "00", nil)
}

func doubleAnswer(t *testing.T, p Peer) {
	p.Behave(Doubles)
	for n := 1; n <= 5; n++ {
		req := p.Purchase(n)
		result := exchange(t, p.Host, req, patience)
		check(t, result, txn.Answered, "00", nil)
		if result.Reply.RRN != req.RRN {
			t.Errorf("answer of %q for request %q", result.Reply.RRN, req.RRN)
		}
	}
}

// reversal: silence leaves it owed, a refusal to believe it too; repeats are one reversal only.
func reversal(t *testing.T, p Peer) {
	req := p.Purchase(1)
	check(t, exchange(t, p.Host, req, patience), txn.Answered, "00", nil)
	tries := []struct {
		behave Behaviour
		want   txn.Outcome
	}{{Loses, txn.Unknown}, {Silent, txn.Unknown}, {WrongMAC, txn.Unknown}, {WrongAmount, txn.Unknown}, {Good, txn.Answered}, {Good, txn.Answered}}
	for i, try := range tries {
		p.Behave(try.behave)
		wait := short
		if try.want == txn.Answered {
			wait = patience
		}
		check(t, undo(t, p.Host, UndoOf(req, i+1), wait), try.want, "00", nil)
	}
	if got := p.Taken(); got != 0 {
		t.Errorf("after the reversal the peer has %d", got)
	}
}

// withoutOriginal: 25 ends a reversal, and keeps the original out should it still come.
func withoutOriginal(t *testing.T, p Peer) {
	req := p.Purchase(1)
	check(t, undo(t, p.Host, UndoOf(req, 1), patience), txn.Answered, "25", nil)
	result := exchange(t, p.Host, req, patience)
	if result.Outcome != txn.Answered || result.Reply.Approved() || p.Taken() != 0 {
		t.Errorf("withdrawn request: %+v, taken %d", result, p.Taken())
	}
}

// manyAtOnce: every answer goes to its own request.
func manyAtOnce(t *testing.T, p Peer) {
	const n = 100
	var wg sync.WaitGroup
	for i := 1; i <= n; i++ {
		wg.Go(func() {
			req := p.Purchase(i)
			result := exchange(t, p.Host, req, patience)
			if result.Outcome != txn.Answered || result.Reply.Code != "00" || result.Reply.RRN != req.RRN {
				t.Errorf("request %q: %s %q %q %v", req.RRN, result.Outcome, result.Reply.Code, result.Reply.RRN, result.Err)
			}
		})
	}
	wg.Wait()
}

func exchange(t *testing.T, h host.Host, req host.Request, wait time.Duration) host.Result {
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	return h.Exchange(ctx, req)
}

func undo(t *testing.T, h host.Host, rev host.Reversal, wait time.Duration) host.Result {
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	return h.Reverse(ctx, rev)
}

// undoSoon reverses over a connection that may have to be made anew first.
func undoSoon(t *testing.T, h host.Host, req host.Request) host.Result {
	t.Helper()
	return soon(t, h, func(try int) host.Result { return undo(t, h, UndoOf(req, try), patience) })
}

// soon tries again what was not sent because the connection had to be made anew first, as posp does.
func soon(t *testing.T, h host.Host, work func(try int) host.Result) host.Result {
	t.Helper()
	end := time.Now().Add(patience)
	for try := 1; ; try++ {
		AwaitReady(t, h)
		result := work(try)
		if result.Outcome != txn.NotSent || time.Now().After(end) {
			return result
		}
	}
}

// check compares a result; code is looked at for Answered only, and wantErr only where it is given.
func check(t *testing.T, got host.Result, want txn.Outcome, code string, wantErr error) {
	t.Helper()
	if got.Outcome != want {
		t.Fatalf("outcome %q (code %q, %v), want %q", got.Outcome, got.Reply.Code, got.Err, want)
	}
	switch {
	case want == txn.Answered && (got.Reply.Code != code || got.Err != nil):
		t.Errorf("answered with %q, %v; want %q", got.Reply.Code, got.Err, code)
	case want != txn.Answered && (got.Err == nil || got.Reply != (txn.Reply{})):
		t.Errorf("%s needs a reason and no reply, got %v and %+v", want, got.Err, got.Reply)
	case wantErr != nil && !errors.Is(got.Err, wantErr):
		t.Errorf("error %v, want %v", got.Err, wantErr)
	}
	if got.Err != nil && strings.Contains(got.Err.Error(), "622202") {
		t.Errorf("the error shows card data: %v", got.Err)
	}
}
