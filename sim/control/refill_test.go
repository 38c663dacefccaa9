package control_test

import (
	"strings"
	"testing"
)

// TestRefill: with a full stock, a blank card lies in the reader for any number; a number that is none is still refused.
func TestRefill(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	cfg.Cards.Refill = true
	b := start(t, cfg)
	status, _, body := b.do(t, "POST", "/v1/cards/60000000000000000009/apdu", `{"apdu":"00B095000E"}`)
	if status != 200 || !strings.Contains(body, "60000000000000000009") || !strings.Contains(body, `9000"`) {
		t.Errorf("%d %s", status, body)
	}
	if status, _, body := b.do(t, "POST", "/v1/cards/6000/apdu", `{"apdu":"00B095000E"}`); status < 400 || status >= 500 {
		t.Errorf("a number that is none: %d %s", status, body)
	}
}
