package posp

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestPINRates: a minute's worth at once, then one for each share of a minute, for the card over all terminals and for the terminal over all
// cards; what is refused costs the other nothing.
func TestPINRates(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	r := newPINRates(3, 5)
	allow := func(card, terminal, want string) {
		t.Helper()
		if got := r.allow([]byte(card), terminal, now); want == "" && got != "" || !strings.Contains(got, want) {
			t.Fatalf("%s at %s: %q, want %q", card, terminal, got, want)
		}
	}
	for i := range 3 {
		allow("A", fmt.Sprint(i), "")
	}
	for range 10 {
		allow("A", "9", "pins_per_card") // and terminal 9 has lost nothing
	}
	for i := range 5 {
		allow(fmt.Sprint(i), "9", "")
	}
	for range 10 {
		allow("B", "9", "pins_per_terminal") // and card B has lost nothing
	}
	for i := range 3 {
		allow("B", fmt.Sprint(i), "")
	}
	now = now.Add(20 * time.Second)
	allow("A", "7", "")
	allow("A", "7", "pins_per_card")
}

// TestPINRatesAreBounded: made-up cards push out what owes nothing first.
func TestPINRatesAreBounded(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	r := newPINRates(30, 1_000_000)
	for i := range maxPINRates + 10 {
		now = now.Add(time.Millisecond)
		r.allow([]byte(fmt.Sprint(i)), "1", now)
	}
	if len(r.paid) > maxPINRates {
		t.Errorf("%d are remembered", len(r.paid))
	}
}
