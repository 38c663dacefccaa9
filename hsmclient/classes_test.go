package hsmclient_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/member"
)

// gate is a device that answers RD in the order in which it is let, one at a time, and notes which it was.
type gate struct {
	mu    sync.Mutex
	order []string
}

// asked notes what is asked, in order.
func (g *gate) asked(code, text string, _ int) string {
	if code == "RD" {
		g.mu.Lock()
		g.order = append(g.order, text)
		g.mu.Unlock()
		if text == "1000" { // holds the only place until cleared
			return ""
		}
	}
	return "00"
}

// onePlace is a cluster with one place, which is taken.
func onePlace(t *testing.T, maxWaiting int) (*hsmclient.Cluster, *gate, func()) {
	t.Helper()
	d := newFakeDevice(t)
	s := fakeSpec("a", d)
	s.Channels, s.Depth = 1, 1
	c := startFakes(t, hsmclient.Config{MaxWaiting: maxWaiting, Timeout: patience, Probing: calm}, s)
	g := &gate{}
	d.answer(g.asked)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = c.Random(context.Background(), 1000)
	}()
	eventually(t, "the place is taken", func() bool { return c.Engine().Domains[0].InFlight == 1 })
	return c, g, func() {
		if n, err := c.ClearQueue(member.Act{By: "test", Force: true}, domain, member.Responses); err != nil || n != 1 {
			t.Errorf("%d cleared, %v", n, err)
		}
		<-done
	}
}

// wait makes a request of a class that has to wait; its error comes later.
func wait(t *testing.T, c *hsmclient.Cluster, class command.Priority, n int) chan error {
	t.Helper()
	result := make(chan error, 1)
	before := c.Queues()[0]
	go func() {
		_, err := c.Random(command.WithPriority(context.Background(), class), n)
		result <- err
	}()
	eventually(t, "it waits, or has made another one go", func() bool {
		q := c.Queues()[0]
		return total(q) == total(before)+1 || q.Shed > before.Shed
	})
	return result
}

func total(q member.Queues) (n int) {
	for _, w := range q.Requests {
		n += w.Waiting
	}
	return n
}

// When the queue is full, the newest request of the lowest class goes for a higher one; an equal one is refused.
func TestShedding(t *testing.T) {
	t.Parallel()
	c, g, open := onePlace(t, 3)
	background := wait(t, c, command.Background, 1)
	signOn1 := wait(t, c, command.SignOn, 2)
	signOn2 := wait(t, c, command.SignOn, 3)
	full := func(what string, result chan error) {
		t.Helper()
		if err := <-result; command.ClassOf(err) != command.Unavailable || !strings.Contains(err.Error(), "full") && !strings.Contains(err.Error(), "wait for a free place already") {
			t.Errorf("%s: %v", what, err)
		}
	}
	full("background, refused", wait(t, c, command.Background, 4))
	transaction1 := wait(t, c, command.Transaction, 5)
	full("background, put out", background)
	transaction2 := wait(t, c, command.Transaction, 6)
	full("the newest sign-on", signOn2)
	q := c.Queues()[0]
	if q.Shed != 3 || q.Limit != 3 || q.Requests[0].Class != "transaction" || q.Requests[0].Waiting != 2 || q.Requests[1].Waiting != 1 || q.Sent[0].InFlight != 1 {
		t.Errorf("%+v", q)
	}
	open()
	for _, result := range []chan error{transaction1, transaction2, signOn1} {
		if err := <-result; err != nil {
			t.Error(err)
		}
	}
	if got := strings.Join(g.order, " "); got != "1000 5 6 2" {
		t.Errorf("served in the order %s", got)
	}
}

// Transactions go first, but every eighth place goes to a sign-on that waits.
func TestNobodyStarves(t *testing.T) {
	t.Parallel()
	c, g, open := onePlace(t, 100)
	results := []chan error{wait(t, c, command.SignOn, 1)}
	for i := range 12 {
		results = append(results, wait(t, c, command.Transaction, 10+i))
	}
	open()
	for _, result := range results {
		if err := <-result; err != nil {
			t.Error(err)
		}
	}
	at := strings.Index(strings.Join(g.order, " ")+" ", " 1 ")
	if place := strings.Count(strings.Join(g.order, " ")[:at+1], " "); place != 8 {
		t.Errorf("the sign-on was served at place %d: %v", place, g.order)
	}
}

// Sign-ons by nature are of the lower class without being told.
func TestClassByNature(t *testing.T) {
	t.Parallel()
	c, _, open := onePlace(t, 100)
	done := make(chan error, 1)
	go func() { done <- storeKey(c, "x") }()
	eventually(t, "it waits as a transaction", func() bool { return c.Queues()[0].Requests[0].Waiting == 1 })
	open()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A waiting request leaves with its deadline; one without a deadline after the time-out of a command.
func TestDeadlineInQueue(t *testing.T) {
	t.Parallel()
	c, _, open := onePlace(t, 100)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := c.Random(ctx, 1); command.ClassOf(err) != command.Unavailable || !strings.Contains(err.Error(), "no free place") {
		t.Errorf("got %v", err)
	}
	if n := total(c.Queues()[0]); n != 0 {
		t.Errorf("%d still wait", n)
	}
	open()
}

// The queue that is in use is cleared only by force; then callers hear why, and what may have been done is unknown.
func TestClearQueue(t *testing.T) {
	t.Parallel()
	c, _, open := onePlace(t, 100)
	waiting := wait(t, c, command.Transaction, 1)
	for _, kind := range []member.QueueKind{member.Requests, member.Responses} {
		if _, err := c.ClearQueue(act, domain, kind); !member.IsRefusal(err, member.Unsafe) || !strings.Contains(err.Error(), "in use") {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if n, err := c.ClearQueue(member.Act{By: "test", Force: true}, domain, member.Requests); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if err := <-waiting; command.ClassOf(err) != command.Unavailable || !strings.Contains(err.Error(), "cleared the queue") {
		t.Errorf("got %v", err)
	}
	open()
	if n, err := c.ClearQueue(act, domain, member.Requests); n != 0 || err != nil {
		t.Errorf("an empty queue: %d, %v", n, err)
	}
}

// The outcome of what may have been done is unknown when the queue of responses is cleared.
func TestClearResponsesOfWhatIsDoneOnce(t *testing.T) {
	t.Parallel()
	a := newFakeDevice(t)
	c := startFakes(t, hsmclient.Config{Timeout: patience, Probing: calm}, fakeSpec("a", a))
	a.answer(func(code, _ string, _ int) string {
		if code == "SK" {
			return ""
		}
		return "00"
	})
	done := make(chan error, 1)
	go func() { done <- storeKey(c, "x") }()
	eventually(t, "it is under way", func() bool { return a.count("SKx") == 1 })
	if n, err := c.ClearQueue(member.Act{By: "test", Force: true}, domain, member.Responses); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if err := <-done; command.ClassOf(err) != command.Unknown {
		t.Errorf("got %v", err)
	}
}

// The engine stops taking requests when those under way have ended, and starts again; members are watched all the while.
func TestEngine(t *testing.T) {
	t.Parallel()
	c, _, open := onePlace(t, 100)
	stopped := make(chan error, 1)
	go func() { stopped <- c.StopEngine(context.Background(), act) }()
	eventually(t, "it takes no more", func() bool {
		err := randoms2(c, 20*time.Millisecond)
		return err != nil && strings.Contains(err.Error(), "stopped")
	})
	select {
	case err := <-stopped:
		t.Fatalf("stopped with a request under way: %v", err)
	default:
	}
	open()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	e := c.Engine()
	if e.Running || !e.Monitoring || e.Domains[0].States[member.Working] != 1 {
		t.Errorf("%+v", e)
	}
	if err := c.StopEngine(t.Context(), act); !member.IsRefusal(err, member.Conflict) {
		t.Errorf("stopped twice: %v", err)
	}
	if err := c.StartEngine(act); err != nil {
		t.Fatal(err)
	}
	if err := randoms(c); err != nil {
		t.Error(err)
	}
	if !inOrder(c, " engine running>stopped before", " engine running>stopped after", " engine stopped>running before", " engine stopped>running after") {
		t.Errorf("%q", switches(c))
	}
}

func randoms2(c *hsmclient.Cluster, within time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	_, err := c.Random(ctx, 8)
	return err
}
