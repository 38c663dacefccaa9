package dev

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestNumbers(t *testing.T) {
	t.Parallel()
	if terminalID(1) != "10000001" || psamNo(1) != "60000000000000000001" || psamNo(120) != "60000000000000000120" {
		t.Error("numbers are not those of design.md §6")
	}
	if got := trafficTerminals(); got[0] != "10000101" || got[len(got)-1] != "10000120" {
		t.Errorf("traffic on %v", got)
	}
}

func TestWanted(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		terminals int
		traffic   bool
		runs      []run
	}{
		{0, false, nil}, {0, true, []run{{101, 20}}},
		{3, false, []run{{1, 3}, {201, 10}, {301, 10}, {401, 10}}},
		{3, true, []run{{1, 3}, {101, 20}, {201, 10}, {301, 10}, {401, 10}}},
		{110, true, []run{{1, 120}, {201, 10}, {301, 10}, {401, 10}}},
		{205, true, []run{{1, 210}, {301, 10}, {401, 10}}},
		{500, false, []run{{1, 500}}},
	} {
		if got := runs(wanted(test.terminals, test.traffic)); !slices.Equal(got, test.runs) {
			t.Errorf("%d terminals, traffic %v: %v, want %v", test.terminals, test.traffic, got, test.runs)
		}
	}
}

func TestParallel(t *testing.T) {
	t.Parallel()
	var done, at, most atomic.Int32
	numbers := wanted(50, false)[:50]
	err := parallel(t.Context(), numbers, func(context.Context, int) error {
		if n := at.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer at.Add(-1)
		done.Add(1)
		return nil
	})
	if err != nil || done.Load() != 50 || most.Load() > fillParallel {
		t.Errorf("%v: %d done, %d at a time", err, done.Load(), most.Load())
	}
	broken := errors.New("card 7 is broken")
	err = parallel(t.Context(), numbers, func(ctx context.Context, n int) error {
		if n == 7 {
			return broken
		}
		return ctx.Err()
	})
	if !errors.Is(err, broken) {
		t.Errorf("error %v, want the first real one", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := parallel(cancelled, numbers, func(ctx context.Context, _ int) error { return ctx.Err() }); err == nil {
		t.Error("a cancelled run counts as done")
	}
}

func TestRefusalText(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"title":"Conflict","detail":"the card is bound elsewhere","next_step":"end that binding"}`: "Conflict: the card is bound elsewhere: end that binding",
		`{"error":"no such terminal"}`: "no such terminal",
		`{"ready":false,"checks":[{"name":"database","ok":true},{"name":"hsm","ok":false,"error":"away"}]}`: "hsm: away",
		"plain words": "plain words",
	} {
		if got := refusal([]byte(body)); got != want {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
}

func TestEventLine(t *testing.T) {
	t.Parallel()
	e := event{At: time.Unix(0, 0), Kind: "purchase", Terminal: "10000001", Trace: "000002", Amount: 1234, Code: "98", Reason: "host silent", Took: 3 * time.Millisecond}
	plain := NewScreen(nil, false).line(e)
	for _, want := range []string{"purchase        10000001 98", "trace 000002", "12.34", "3ms", "(host silent)\n"} {
		if !strings.Contains(plain, want) {
			t.Errorf("%q lacks %q", plain, want)
		}
	}
	if strings.Contains(plain, "\x1b") {
		t.Error("colours in plain text")
	}
	if coloured := NewScreen(nil, true).line(e); !strings.Contains(coloured, "\x1b[31m") || !strings.Contains(coloured, "\x1b[0m") {
		t.Errorf("no colours: %q", coloured)
	}
}

// TestFamilies: the terminals that differ are those of design.md §6, and no others.
func TestFamilies(t *testing.T) {
	t.Parallel()
	for terminal, want := range map[string]string{
		"10000200": "", "10000201": "sm4 16 unionpay", "10000210": "sm4 16 unionpay", "10000211": "", "10000301": "tdes 16 unionpay-x919",
		"10000310": "tdes 16 unionpay-x919", "10000401": "des 8 unionpay", "10000410": "des 8 unionpay", "10000411": "",
	} {
		f, ok := familyOf(terminal)
		if got := fmt.Sprintf("%s %d %s", f.algorithm, f.makLength, f.profile); ok != (want != "") || ok && got != want {
			t.Errorf("%s: %q", terminal, got)
		}
	}
}
