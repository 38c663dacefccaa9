package link_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyward/keyward/internal/link"
)

func TestExchange1000Concurrent(t *testing.T) {
	t.Parallel()
	s := startServer(t, link.ServerConfig{Handler: echo, MaxInFlightPerConn: 100})
	c := connected(t, newClient(t, link.ClientConfig[[4]byte]{Addr: s.Addr().String(), MaxInFlight: 64}))
	ctx := within(t)
	var wg sync.WaitGroup
	for i := range 1000 {
		wg.Go(func() {
			want := request(i, fmt.Sprintf("text %d", i))
			got, err := c.Exchange(ctx, k4(i), want)
			if err != nil || string(got) != string(want) {
				t.Errorf("exchange %d: %q, %v", i, got, err)
			}
		})
	}
	wg.Wait()
}

func TestExchangeOutOfOrder(t *testing.T) {
	t.Parallel()
	p := newPeer(t)
	c := connected(t, newClient(t, link.ClientConfig[[4]byte]{Addr: p.addr}))
	nc := p.accept(t)
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			got, err := c.Exchange(within(t), k4(i), request(i, "q"))
			if err != nil || string(got) != string(request(i, "a")) {
				t.Errorf("exchange %d: %q, %v", i, got, err)
			}
		})
	}
	var in [][]byte
	for range 10 {
		in = append(in, readFrame(t, nc))
	}
	for i := len(in) - 1; i >= 0; i-- {
		writeFrame(t, nc, append(in[i][:4:4], 'a'))
	}
	wg.Wait()
}

func TestLateAnswerNeverAnswersAnother(t *testing.T) {
	t.Parallel()
	for _, repeat := range []bool{false, true} {
		t.Run(fmt.Sprintf("repeat=%v", repeat), func(t *testing.T) {
			t.Parallel()
			p := newPeer(t)
			strays := make(chan string, 4)
			c := connected(t, newClient(t, link.ClientConfig[[4]byte]{
				Addr: p.addr, RepeatKeys: repeat, Poison: true, OnStray: func(f []byte) { strays <- string(f[4:]) },
			}))
			nc := p.accept(t)
			ctx, cancel := context.WithCancel(within(t))
			go func() {
				if _, err := tryReadFrame(nc); err == nil {
					cancel() // gives up only after the request has arrived
				}
			}()
			_, err := c.Exchange(ctx, k4(1), request(1, "q1"))
			wantOutcome(t, err, link.Unknown, context.Canceled)
			if !repeat {
				_, err = c.Exchange(within(t), k4(1), request(1, "q2"))
				wantOutcome(t, err, link.NotSent, link.ErrKeyInUse)
			}
			writeFrame(t, nc, request(1, "late"))
			if got := <-strays; got != "late" {
				t.Fatalf("stray %q", got)
			}
			// The key is free again, the connection still lives, and the new request gets its own answer.
			done := make(chan struct{})
			go func() {
				defer close(done)
				if got, err := c.Exchange(within(t), k4(1), request(1, "q3")); err != nil || string(got[4:]) != "a3" {
					t.Errorf("%q, %v", got, err)
				}
			}()
			if got := string(readFrame(t, nc)[4:]); got != "q3" {
				t.Fatalf("peer received %q", got)
			}
			writeFrame(t, nc, request(1, "a3"))
			<-done
		})
	}
}

func TestRepeatedRequestTakesAnyAnswer(t *testing.T) {
	t.Parallel()
	p := newPeer(t)
	c := connected(t, newClient(t, link.ClientConfig[[4]byte]{Addr: p.addr, RepeatKeys: true}))
	nc := p.accept(t)
	ctx, cancel := context.WithCancel(within(t))
	first := make(chan error, 1)
	go func() {
		_, err := c.Exchange(ctx, k4(1), request(1, "reversal"))
		first <- err
	}()
	readFrame(t, nc)
	cancel()
	wantOutcome(t, <-first, link.Unknown, context.Canceled)
	go func() {
		_, err := c.Exchange(within(t), k4(1), request(1, "reversal"))
		first <- err
	}()
	readFrame(t, nc)
	writeFrame(t, nc, request(1, "answer to the first"))
	if err := <-first; err != nil {
		t.Fatal(err)
	}
}

func TestStraysAndPoison(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name   string
		frame  []byte // sent unasked after one good exchange with key 1
		closes bool   // even without Poison
	}{
		{"unknown key", framed(request(9, "x")), false},
		{"duplicate answer", framed(request(1, "a")), false},
		{"no readable key", framed([]byte("ab")), false},
		{"key function panics", framed([]byte("!!!!")), true},
		{"zero length", []byte{0, 0}, true},
		{"too long", []byte{0xFF, 0xFF}, true},
		{"slow", []byte{0, 9, 1}, true},
	}
	for _, tc := range cases {
		for _, poison := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/poison=%v", tc.name, poison), func(t *testing.T) {
				t.Parallel()
				p := newPeer(t)
				strays := make(chan struct{}, 4)
				c := connected(t, newClient(t, link.ClientConfig[[4]byte]{
					Addr: p.addr, Poison: poison, OnStray: func([]byte) { strays <- struct{}{} }, FrameTimeout: 30 * time.Millisecond,
					Key: func(f []byte) ([4]byte, error) {
						if string(f) == "!!!!" {
							panic("hostile")
						}
						return key4(f)
					},
				}))
				nc := p.accept(t)
				answer := func(n int) {
					done := make(chan struct{})
					go func() {
						defer close(done)
						if _, err := c.Exchange(within(t), k4(n), request(n, "q")); err != nil {
							t.Errorf("exchange: %v", err)
						}
					}()
					readFrame(t, nc)
					writeFrame(t, nc, request(n, "a"))
					<-done
				}
				answer(1)
				inFlight := make(chan error, 1)
				go func() {
					_, err := c.Exchange(within(t), k4(2), request(2, "q"))
					inFlight <- err
				}()
				readFrame(t, nc)
				if _, err := nc.Write(tc.frame); err != nil {
					t.Fatal(err)
				}
				if poison || tc.closes {
					wantOutcome(t, <-inFlight, link.Unknown, link.ErrConnectionLost)
					wantClosed(t, nc)
					p.accept(t) // and it connects again
					return
				}
				wait(t, strays, "the stray")
				writeFrame(t, nc, request(2, "a"))
				if err := <-inFlight; err != nil {
					t.Fatal(err)
				}
				answer(3)
			})
		}
	}
}

func TestInFlightIsBounded(t *testing.T) {
	t.Parallel()
	p := newPeer(t)
	c := connected(t, newClient(t, link.ClientConfig[[4]byte]{Addr: p.addr, MaxInFlight: 1}))
	nc := p.accept(t)
	first := make(chan error, 1)
	go func() {
		_, err := c.Exchange(within(t), k4(1), request(1, "q"))
		first <- err
	}()
	readFrame(t, nc)
	ctx, cancel := context.WithTimeout(within(t), 10*time.Millisecond)
	defer cancel()
	_, err := c.Exchange(ctx, k4(2), request(2, "q"))
	wantOutcome(t, err, link.NotSent, context.DeadlineExceeded)
	writeFrame(t, nc, request(1, "a"))
	if err := <-first; err != nil {
		t.Fatal(err)
	}
}

func TestRefusedBeforeSending(t *testing.T) {
	t.Parallel()
	s := startServer(t, link.ServerConfig{Handler: echo})
	c := connected(t, newClient(t, link.ClientConfig[[4]byte]{Addr: s.Addr().String(), MaxFrame: 32}))
	_, err := c.Exchange(within(t), k4(1), nil)
	wantOutcome(t, err, link.NotSent, nil)
	_, err = c.Exchange(within(t), k4(1), make([]byte, 33))
	wantOutcome(t, err, link.NotSent, nil)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = c.Exchange(ended, k4(1), request(1, "q"))
	wantOutcome(t, err, link.NotSent, context.Canceled)
	if _, err := c.Exchange(within(t), k4(1), request(1, "the key is still free")); err != nil {
		t.Fatal(err)
	}
	if err := c.Send(within(t), request(5, "one way")); err != nil {
		t.Fatal(err)
	}
	if o := link.OutcomeOf(errors.New("foreign")); o != link.Unknown {
		t.Fatalf("a foreign error counts as %s", o)
	}
}

func TestNotConnected(t *testing.T) {
	t.Parallel()
	refuse := func(context.Context) (net.Conn, error) { return nil, errors.New("no route today") }
	c := newClient(t, link.ClientConfig[[4]byte]{Dial: refuse})
	_, err := c.Exchange(within(t), k4(1), request(1, "q"))
	wantOutcome(t, err, link.NotSent, link.ErrNotConnected)
	patient := newClient(t, link.ClientConfig[[4]byte]{Dial: refuse, ConnectWait: 10 * time.Millisecond})
	_, err = patient.Exchange(within(t), k4(1), request(1, "q"))
	wantOutcome(t, err, link.NotSent, link.ErrNotConnected)
	if !strings.Contains(err.Error(), "no route today") {
		t.Fatalf("the cause is missing: %v", err)
	}
	if c.Connected() {
		t.Fatal("connected to nobody")
	}
}

func TestSignOnKeepAliveAndReconnect(t *testing.T) {
	t.Parallel()
	p := newPeer(t)
	states := make(chan bool, 16)
	c := newClient(t, link.ClientConfig[[4]byte]{
		Addr:      p.addr,
		OnConnect: func(ctx context.Context, s *link.Session[[4]byte]) error { return signOn(ctx, s, 100) },
		OnState:   func(up bool, _ error) { states <- up },
		KeepAlive: link.KeepAlive[[4]byte]{
			Every: 20 * time.Millisecond, Timeout: 20 * time.Millisecond,
			Ask: func(ctx context.Context, s *link.Session[[4]byte]) error { return signOn(ctx, s, 200) },
		},
	})
	refused := p.accept(t)
	readFrame(t, refused)
	writeFrame(t, refused, request(100, "no"))
	wantClosed(t, refused)

	nc := p.accept(t)
	if got := readFrame(t, nc); string(got) != string(request(100, "in")) {
		t.Fatalf("first frame %q", got)
	}
	if c.Connected() {
		t.Fatal("usable before the sign-on was answered")
	}
	writeFrame(t, nc, request(100, "ok"))
	if !<-states {
		t.Fatal("first state is down")
	}
	// Silent peer: asked once and answered, asked again and not answered.
	for got := readFrame(t, nc); string(got) != string(request(200, "in")); got = readFrame(t, nc) {
		t.Fatalf("want keep-alive, got %q", got)
	}
	writeFrame(t, nc, request(200, "ok"))
	readFrame(t, nc)
	if <-states {
		t.Fatal("still up without a sign of life")
	}
	wantClosed(t, nc)
	next := p.accept(t)
	readFrame(t, next)
	writeFrame(t, next, request(100, "ok"))
	if !<-states {
		t.Fatal("not up again")
	}
}

func signOn(ctx context.Context, s *link.Session[[4]byte], key int) error {
	a, err := s.Exchange(ctx, k4(key), request(key, "in"))
	if err != nil {
		return err
	}
	if string(a[4:]) != "ok" {
		return errors.New("refused")
	}
	return nil
}

func TestClientStop(t *testing.T) {
	t.Parallel()
	p := newPeer(t)
	c := connected(t, newClient(t, link.ClientConfig[[4]byte]{Addr: p.addr}))
	nc := p.accept(t)
	result := make(chan error, 2)
	for i := range 2 {
		go func() {
			_, err := c.Exchange(within(t), k4(i), request(i, "q"))
			result <- err
		}()
	}
	answered := readFrame(t, nc)
	readFrame(t, nc)
	ctx, cancel := context.WithCancel(within(t))
	stopped := make(chan error, 1)
	go func() { stopped <- c.Stop(ctx) }()
	writeFrame(t, nc, answered) // a request in flight is still answered while stopping
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	cancel() // and what is not answered in time is unknown
	wantOutcome(t, <-result, link.Unknown, link.ErrStopped)
	if err := <-stopped; !errors.Is(err, context.Canceled) {
		t.Fatalf("stop: %v", err)
	}
	_, err := c.Exchange(within(t), k4(9), request(9, "q"))
	wantOutcome(t, err, link.NotSent, link.ErrStopped)
	if err := c.Start(within(t)); !errors.Is(err, link.ErrStopped) {
		t.Fatalf("start after stop: %v", err)
	}
	if err := c.Stop(within(t)); err != nil {
		t.Fatalf("second stop: %v", err)
	}
}

func TestClientConfigRefused(t *testing.T) {
	t.Parallel()
	for i, bad := range []link.ClientConfig[[4]byte]{
		{Addr: "x", Key: key4}, {Name: "n", Addr: "x"}, {Name: "n", Key: key4}, {Name: "n", Addr: "x", Key: key4, MaxFrame: 65536},
		{Name: "n", Addr: "x", Key: key4, KeepAlive: link.KeepAlive[[4]byte]{Every: 1}},
	} {
		if _, err := link.NewClient(bad); err == nil {
			t.Errorf("case %d accepted", i)
		}
	}
	never, err := link.NewClient(link.ClientConfig[[4]byte]{Name: "n", Addr: "x", Key: key4})
	if err != nil {
		t.Fatal(err)
	}
	if err := never.Stop(within(t)); err != nil {
		t.Fatalf("stop before start: %v", err)
	}
}
