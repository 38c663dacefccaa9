package wire

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
)

// Many callers at once on a device that answers in reverse order: everybody gets the answer to the own request.
func TestPipelineInAnyOrder(t *testing.T) {
	t.Parallel()
	const depth, rounds = 16, 200
	d := listen(t, nil, func(s *session) {
		s.prove()
		for {
			var answers [][]byte
			f := s.next()
			if f == nil {
				return
			}
			answers = append(answers, echo(f))
			for s.r.Buffered() > 2 {
				answers = append([][]byte{echo(s.next())}, answers...)
			}
			s.put(answers...)
		}
	})
	c := dialTo(t, d, normal, depth)
	if c.Depth() != depth {
		t.Fatalf("depth %d, want %d", c.Depth(), depth)
	}
	var callers sync.WaitGroup
	for i := range 2 * depth { // more than there are places
		callers.Go(func() {
			for n := range rounds {
				text := fmt.Sprintf("B2%d-%d\x19%d", i, n, i)
				got, err := c.Exchange(t.Context(), []byte(text))
				if err != nil || string(got) != "B300"+text[2:] {
					t.Errorf("%q: got %q, %v", text, got, err)
					return
				}
			}
		})
	}
	callers.Wait()
	if c.Poisoned() || c.Cause() != nil {
		t.Errorf("the channel ended: %v", c.Cause())
	}
}

// What must end the channel, what the requests under way are told, and that nobody gets a wrong answer.
func TestPoison(t *testing.T) {
	t.Parallel()
	ok := func(f []byte) []byte { return echo(f) }
	withHeader := func(of, f []byte) []byte { return append(append([]byte(nil), of[:4]...), ok(f)[4:]...) }
	for name, c := range map[string]struct {
		answer func(s *session, a, b []byte) // has two requests under way
		text   string
	}{
		"another request's header":  {func(s *session, a, b []byte) { s.put(withHeader(b, a), withHeader(a, b)) }, "trailer of another"},
		"a header never sent":       {func(s *session, a, _ []byte) { s.put(append([]byte("ZZZZ"), ok(a)[4:]...)) }, "never sent"},
		"a header not yet sent":     {func(s *session, a, _ []byte) { s.put(append([]byte("WWWW"), ok(a)[4:]...)) }, "no request"},
		"a duplicate":               {func(s *session, a, _ []byte) { s.put(ok(a), ok(a)) }, "no request"},
		"no trailer":                {func(s *session, a, _ []byte) { s.put(ok(a)[:10]) }, "without the trailer"},
		"a trailer of nonsense":     {func(s *session, a, _ []byte) { f := ok(a); f[len(f)-1] = 'z'; s.put(f) }, "without the trailer"},
		"shorter than a header":     {func(s *session, _, _ []byte) { s.put([]byte("00")) }, "shorter"},
		"length zero":               {func(s *session, _, _ []byte) { _, _ = s.Write([]byte{0, 0}) }, "length 0"},
		"a length above the bounds": {func(s *session, _, _ []byte) { _, _ = s.Write([]byte{0xFF, 0xFF}) }, "length 65535"},
		"garbage": {func(s *session, _, _ []byte) {
			_, _ = s.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n" + strings.Repeat("x", 20000)))
		},
			"never sent"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := listen(t, nil, func(s *session) {
				s.prove()
				a, b := s.next(), s.next()
				if a != nil && b != nil {
					c.answer(s, a, b)
				}
				s.next() // until the client hangs up
			})
			ch := dialTo(t, d, normal, 4)
			var callers sync.WaitGroup
			var mu sync.Mutex
			failed := 0
			for _, text := range []string{"B2first", "B2other"} {
				callers.Go(func() {
					got, err := ch.Exchange(t.Context(), []byte(text))
					if err == nil {
						if string(got) != "B300"+text[2:] {
							t.Errorf("%s was given %q", text, got)
						}
						return
					}
					mu.Lock()
					failed++
					mu.Unlock()
					var e *command.Error
					if !errors.As(err, &e) || e.Class != command.MemberFault || !errors.Is(err, driver.ErrLost) || driver.NotSent(err) || errors.Is(err, driver.ErrMalformed) {
						t.Errorf("%s: %v", text, err)
					}
				})
			}
			callers.Wait()
			ended(t, ch)
			if failed == 0 || !ch.Poisoned() || !errors.Is(ch.Cause(), driver.ErrMalformed) || !strings.Contains(ch.Cause().Error(), c.text) {
				t.Errorf("%d failed, poisoned %v, cause %v", failed, ch.Poisoned(), ch.Cause())
			}
			if _, err := ch.Exchange(t.Context(), []byte("NC")); !driver.NotSent(err) || !errors.Is(err, driver.ErrLost) || command.ClassOf(err) != command.MemberFault {
				t.Errorf("a request on the ended channel: %v", err)
			}
		})
	}
}

// A frame that is cut, and one whose rest does not come, end the channel without poison.
func TestCutFrames(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		hangUp  bool
		timeout time.Duration
	}{
		"the device hangs up":    {true, patience},
		"the rest does not come": {false, 50 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := listen(t, nil, func(s *session) {
				s.prove()
				s.next()
				_, _ = s.Write([]byte{0, 20, '0', '0'})
				if !c.hangUp {
					s.next()
				}
			})
			ch := dialTo(t, d, normal, 4, func(to *driver.Target) { to.FrameTimeout = c.timeout })
			_, err := ch.Exchange(t.Context(), []byte("NC"))
			if !errors.Is(err, driver.ErrLost) || driver.NotSent(err) {
				t.Errorf("got %v", err)
			}
			ended(t, ch)
			if ch.Poisoned() || !strings.Contains(ch.Cause().Error(), "cut") {
				t.Errorf("poisoned %v, cause %v", ch.Poisoned(), ch.Cause())
			}
		})
	}
}

// A request that is given up is known when its answer comes late: it is reported, thrown away, and poisons nothing.
func TestLateAnswer(t *testing.T) {
	t.Parallel()
	hold, held := make(chan struct{}), make(chan struct{})
	d := listen(t, nil, func(s *session) {
		s.prove()
		first := s.next()
		close(held)
		<-hold
		s.put(echo(first))
		s.healthy()
	})
	reported := make(chan driver.Late, 1)
	c := dialTo(t, d, normal, 4, func(to *driver.Target) { to.Late = func(l driver.Late) { reported <- l } })
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-held; cancel() }()
	_, err := c.Exchange(ctx, []byte("HCsecret"))
	if command.ClassOf(err) != command.Unavailable || !errors.Is(err, context.Canceled) || driver.NotSent(err) {
		t.Errorf("given up: %v", err)
	}
	close(hold)
	select {
	case l := <-reported:
		if l.Command != "HC" || l.Sent != 8 || l.Received != 10 || l.Took <= 0 || l.At.IsZero() {
			t.Errorf("reported %+v", l)
		}
	case <-time.After(patience):
		t.Fatal("no late answer was reported")
	}
	if got, err := c.Exchange(t.Context(), []byte("B2next")); err != nil || string(got) != "B300next" {
		t.Errorf("the next request: %q, %v", got, err)
	}
}

// A deadline that passes while the device works is the member's fault; one that passed before a byte was sent is nobody's.
func TestDeadlines(t *testing.T) {
	t.Parallel()
	d := listen(t, nil, func(s *session) {
		s.prove()
		for s.next() != nil { // swallows all
		}
	})
	c := dialTo(t, d, normal, 1)
	short := func() (context.Context, context.CancelFunc) {
		return context.WithTimeout(t.Context(), 20*time.Millisecond)
	}
	ctx, cancel := short()
	defer cancel()
	if _, err := c.Exchange(ctx, []byte("NC")); command.ClassOf(err) != command.MemberFault || driver.NotSent(err) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no answer: %v", err)
	}
	if _, err := c.Exchange(ctx, []byte("NC")); command.ClassOf(err) != command.Unavailable || !driver.NotSent(err) {
		t.Errorf("time was over before: %v", err)
	}
	// Both places are taken: the third waits, and is not sent.
	begun := make(chan struct{}, 2)
	var callers sync.WaitGroup
	hold, release := context.WithCancel(t.Context())
	for range 2 {
		callers.Go(func() {
			begun <- struct{}{}
			_, _ = c.Exchange(hold, []byte("NC"))
		})
	}
	<-begun
	<-begun
	for len(c.places) < 2 { // which no event tells
		time.Sleep(time.Millisecond)
	}
	third, cancelThird := short()
	defer cancelThird()
	if _, err := c.Exchange(third, []byte("NC")); command.ClassOf(err) != command.Unavailable || !driver.NotSent(err) {
		t.Errorf("no place: %v", err)
	}
	release()
	callers.Wait()
	if c.Cause() != nil {
		t.Errorf("the channel ended: %v", c.Cause())
	}
}

// A device that loses too many answers loses its channel: there would be no labels left that are surely free.
func TestTooManyLost(t *testing.T) {
	t.Parallel()
	d := listen(t, nil, func(s *session) {
		for range proofRequests {
			f := s.next()
			s.put(append([]byte{f[0], f[1], f[2] + 1, '0', '0'}, f[3:]...))
		}
		for s.next() != nil {
		}
	})
	c := dialTo(t, d, Config{HeaderLength: 1, Echo: true, Probe: "NC"}, 64)
	if c.Depth() != 8 {
		t.Errorf("depth %d with 32 labels", c.Depth())
	}
	lost := 0
	for c.Cause() == nil {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		_, err := c.Exchange(ctx, []byte("NC"))
		cancel()
		if err == nil {
			t.Fatal("answered")
		}
		if !driver.NotSent(err) {
			lost++
		}
	}
	if lost != 32/4+1 {
		t.Errorf("ended after %d lost answers", lost)
	}
	if !errors.Is(c.Cause(), errTooLate) || c.Poisoned() {
		t.Errorf("cause %v", c.Cause())
	}
}

// Close fails what is under way at once.
func TestClose(t *testing.T) {
	t.Parallel()
	got := make(chan struct{})
	d := listen(t, nil, func(s *session) {
		s.prove()
		s.next()
		close(got)
		s.next()
	})
	c := dialTo(t, d, normal, 4)
	go func() { <-got; c.Close(fmt.Errorf("%w: the driver says so", driver.ErrMalformed)) }()
	_, err := c.Exchange(t.Context(), []byte("NC"))
	if !errors.Is(err, driver.ErrLost) || driver.NotSent(err) || !strings.Contains(err.Error(), "the driver says so") {
		t.Errorf("got %v", err)
	}
	c.Close(errors.New("a second cause"))
	if !c.Poisoned() || !errors.Is(c.Cause(), driver.ErrMalformed) {
		t.Errorf("poisoned %v, cause %v", c.Poisoned(), c.Cause())
	}
	if _, err := c.Exchange(t.Context(), []byte("N")); command.ClassOf(err) != command.CallerFault {
		t.Errorf("a request of one byte: %v", err)
	}
	if _, err := c.Exchange(t.Context(), make([]byte, maxRequest+1)); command.ClassOf(err) != command.CallerFault {
		t.Errorf("a request of %d bytes: %v", maxRequest+1, err)
	}
}
