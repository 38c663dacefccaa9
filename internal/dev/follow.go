package dev

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	// followPause is the pause before the event stream is opened again after posp was restarted.
	followPause = 500 * time.Millisecond
	// maxEvent bounds one line of the stream; an event has a few hundred bytes.
	maxEvent = 64 << 10
)

// Screen is where people look: writes of whole lines, from several goroutines. Colours are for terminals only.
type Screen struct {
	out    io.Writer
	colour bool
	mu     *sync.Mutex
}

// NewScreen makes a screen over w.
func NewScreen(w io.Writer, colour bool) Screen {
	return Screen{out: w, colour: colour, mu: &sync.Mutex{}}
}

// Write writes one piece at a time.
func (s Screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(b)
}

// event is one message as posp's operations API streams it (GET /v1/events).
type event struct {
	At       time.Time     `json:"at"`
	Kind     string        `json:"kind"`
	Terminal string        `json:"terminal"`
	Trace    string        `json:"trace"`
	Amount   int64         `json:"amount"` // fen
	Card     string        `json:"card"`   // masked
	Code     string        `json:"code"`
	RRN      string        `json:"rrn"`
	Reason   string        `json:"reason"`
	Took     time.Duration `json:"took_ns"`
}

// follow shows a line per message until ctx ends. When posp goes away it waits for it to come back.
func (s *System) follow(ctx context.Context, screen Screen) {
	since := time.Now() // a stream begins with the latest events, which were shown or belong to an earlier run
	for ctx.Err() == nil {
		since = s.stream(ctx, screen, since)
		select {
		case <-ctx.Done():
		case <-time.After(followPause):
		}
	}
}

// stream reads one event stream to its end and returns the time of the newest event shown.
func (s *System) stream(ctx context.Context, screen Screen, since time.Time) time.Time {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Operations.base+"/v1/events", nil)
	if err != nil {
		return since
	}
	client := &http.Client{Transport: s.Operations.client.Transport} // without its time-out: a stream has no end
	res, err := client.Do(req)
	if err != nil {
		return since
	}
	defer func() { _ = res.Body.Close() }() // only read
	scan := bufio.NewScanner(res.Body)
	scan.Buffer(nil, maxEvent)
	newest := since
	for scan.Scan() {
		data, ok := strings.CutPrefix(scan.Text(), "data: ")
		var e event
		// Events of different terminals may overtake each other, so each is compared with the beginning alone.
		if !ok || json.Unmarshal([]byte(data), &e) != nil || !e.At.After(since) {
			continue
		}
		if e.At.After(newest) {
			newest = e.At
		}
		_, _ = io.WriteString(screen, screen.line(e))
	}
	return newest
}

// line is an event as one line of text.
func (s Screen) line(e event) string {
	mark, reset := "", ""
	if s.colour {
		reset = "\x1b[0m"
		switch e.Code {
		case "00":
			mark = "\x1b[32m" // green
		case "96", "98":
			mark = "\x1b[31m" // red: something of ours or behind us is away
		default:
			mark = "\x1b[33m" // yellow
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s%-15s %-8s %-2s%s", e.At.Local().Format("15:04:05.000"), mark, e.Kind, e.Terminal, e.Code, reset)
	if e.Trace != "" {
		fmt.Fprintf(&b, "  trace %s", e.Trace)
	}
	if e.Amount != 0 {
		fmt.Fprintf(&b, "  %d.%02d", e.Amount/100, e.Amount%100)
	}
	if e.Card != "" {
		fmt.Fprintf(&b, "  %s", e.Card)
	}
	if e.RRN != "" {
		fmt.Fprintf(&b, "  rrn %s", e.RRN)
	}
	fmt.Fprintf(&b, "  %s", e.Took.Round(100*time.Microsecond))
	if e.Reason != "" {
		fmt.Fprintf(&b, "  (%s)", e.Reason)
	}
	return b.String() + "\n"
}
