package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyward/keyward/hsmclient/driver"
)

// Framing as devices are configured: header, length rule, LMK id, trailer.
func TestFraming(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cfg  Config
		want string // of the frame that carries NC with serial number 5, behind its length
		n    int    // the length field
	}{
		"factory settings":   {normal, "0005NC\x1900000005", 15},
		"no trailer":         {Config{HeaderLength: 4, Echo: true, Probe: "NC"}, "0005NC", 6},
		"a long header":      {Config{HeaderLength: 10, Echo: true, Probe: "NC"}, "0000000005NC", 12},
		"a short one":        {Config{HeaderLength: 1, Echo: true, Probe: "NC"}, "5NC", 3},
		"an LMK id":          {Config{HeaderLength: 4, Echo: true, Trailer: true, Suffix: "%01", Probe: "NC"}, "0005NC%01\x1900000005", 18},
		"payload rule":       {Config{HeaderLength: 4, BareLength: true, Echo: true, Trailer: true, Probe: "NC"}, "0005NC\x1900000005", 11},
		"no labels, one way": {Config{HeaderLength: 4, Trailer: false, Probe: "NC"}, "0005NC", 6},
		"no header":          {Config{Probe: "NC"}, "NC", 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := c.cfg.check(); err != nil {
				t.Fatal(err)
			}
			ch := &Channel{cfg: c.cfg, header: newHeader(c.cfg.HeaderLength), way: way{labelled: c.cfg.Echo}}
			got := ch.appendFrame(nil, 5, []byte("NC"))
			if string(got[2:]) != c.want || int(got[0])<<8+int(got[1]) != c.n {
				t.Errorf("got %q", got)
			}
		})
	}
	for name, cfg := range map[string]Config{
		"labels without header": {Echo: true, Probe: "NC"}, "a header of 256": {HeaderLength: 256, Probe: "NC"}, "a header of -1": {HeaderLength: -1, Probe: "NC"},
		"a trailer alone": {HeaderLength: 4, Trailer: true, Probe: "NC"}, "no probe": {HeaderLength: 4},
	} {
		if _, err := Open(t.Context(), cfg, driver.Target{}); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

// Open finds out whether labels come back, and does without them where they do not.
func TestProof(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		serve func(*session)
		depth int
	}{
		"labels come back": {(*session).healthy, 8},
		"a constant header": {func(s *session) {
			for f := s.next(); f != nil; f = s.next() {
				s.put(append([]byte("HEAD"), echo(f)[4:]...))
			}
		}, 1},
		"no trailer": {func(s *session) {
			for f := s.next(); f != nil; f = s.next() {
				if at := bytes.IndexByte(f, trailerMark); at >= 0 {
					f = f[:at]
				}
				s.put(echo(f))
			}
		}, 1},
		"one request at a time": {func(s *session) { // what came together with the first is thrown away
			for f := s.next(); f != nil; f = s.next() {
				_, _ = s.r.Discard(s.r.Buffered())
				s.put(echo(f))
			}
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := listen(t, nil, c.serve)
			var mu sync.Mutex
			var logged bytes.Buffer
			log := slog.New(slog.NewTextHandler(writer(func(b []byte) (int, error) {
				mu.Lock()
				defer mu.Unlock()
				return logged.Write(b)
			}), nil))
			// The one that swallows requests is found out when half of the time is over.
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			ch, err := Open(ctx, normal, driver.Target{Name: "hsm1", Addr: d.addr, Depth: 8, Log: log})
			if err != nil {
				t.Fatal(err)
			}
			defer ch.Close(nil)
			mu.Lock()
			text := logged.String()
			mu.Unlock()
			if ch.Depth() != c.depth || (c.depth == 1) != strings.Contains(text, "does not give labels back") {
				t.Errorf("depth %d, log %q", ch.Depth(), text)
			}
			var callers sync.WaitGroup
			for range 8 {
				callers.Go(func() {
					if got, err := ch.Exchange(t.Context(), []byte("B2x")); err != nil || string(got) != "B300x" {
						t.Errorf("got %q, %v", got, err)
					}
				})
			}
			callers.Wait()
		})
	}
}

// A device that is sick while labels are tried is not taken for one without labels: its duplicates would be the answers to later requests.
func TestSickDuringTheProof(t *testing.T) {
	t.Parallel()
	duplicates := func(s *session) {
		for f := s.next(); f != nil; f = s.next() {
			s.put(echo(f), echo(f))
		}
	}
	wrongHeaderFirst := func() func(*session) {
		var tried atomic.Int32
		return func(s *session) { // wrong on the first two connections, right on the third
			wrong := tried.Add(1) < 3
			for f := s.next(); f != nil; f = s.next() {
				answer := echo(f)
				if wrong {
					answer[0] ^= 0x80
				}
				s.put(answer)
			}
		}
	}
	for name, serve := range map[string]func(*session){"every answer twice": duplicates, "wrong headers": wrongHeaderFirst()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := listen(t, nil, serve)
			ch, err := Open(t.Context(), normal, driver.Target{Name: "hsm1", Addr: d.addr, Depth: 8})
			if err != nil {
				if !strings.Contains(err.Error(), "it was sick") {
					t.Errorf("refused with %v", err)
				}
				return
			}
			defer ch.Close(nil)
			if !ch.labelled {
				t.Fatal("taken for one without labels")
			}
		})
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

// Without labels a request that is given up ends the channel: its answer could be taken for the next one's.
func TestGivingUpWithoutLabels(t *testing.T) {
	t.Parallel()
	got := make(chan struct{})
	d := listen(t, nil, func(s *session) {
		f := s.next()
		s.put(echo(f))
		s.next()
		close(got)
		s.next()
	})
	c := dialTo(t, d, Config{HeaderLength: 4, Probe: "NC"}, 8)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-got; cancel() }()
	if _, err := c.Exchange(ctx, []byte("NC")); driver.NotSent(err) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	ended(t, c)
	if c.Poisoned() || !errors.Is(c.Cause(), errGivenUp) {
		t.Errorf("poisoned %v, cause %v", c.Poisoned(), c.Cause())
	}
}

// Without labels an answer that nobody has asked for poisons.
func TestStrayWithoutLabels(t *testing.T) {
	t.Parallel()
	d := listen(t, nil, func(s *session) {
		f := s.next()
		s.put(echo(f))
		f = s.next()
		s.put(echo(f), echo(f))
		s.next()
	})
	c := dialTo(t, d, Config{HeaderLength: 4, Probe: "NC"}, 8)
	_, _ = c.Exchange(t.Context(), []byte("NC"))
	ended(t, c)
	if !c.Poisoned() {
		t.Errorf("cause %v", c.Cause())
	}
}

// Devices that cannot be opened: nobody there, closes at once, accepts and is silent, closes after the first answer.
func TestOpenFailures(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		serve func(*session)
		text  string
	}{
		"accepts, then closes": {func(*session) {}, "does not answer"},
		"is silent":            {func(s *session) { _, _ = io.Copy(io.Discard, s) }, "does not answer"},
		"ends after one answer": {func(s *session) {
			if f := s.next(); f != nil {
				s.put([]byte("x"))
			}
		}, "hsm1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := listen(t, nil, c.serve)
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			ch, err := Open(ctx, normal, driver.Target{Name: "hsm1", Addr: d.addr, Depth: 8})
			if err == nil {
				ch.Close(nil)
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), d.addr) {
				t.Errorf("got %v", err)
			}
			if strings.Contains(err.Error(), "\n") || strings.Count(err.Error(), "request sent, no answer") > 1 {
				t.Errorf("the reason says the same thing several times, or takes several lines: %v", err)
			}
		})
	}
	if _, err := Open(t.Context(), normal, driver.Target{Name: "hsm1", Addr: "127.0.0.1:1", Depth: 8}); err == nil {
		t.Error("opened a port where nobody listens")
	}
}
