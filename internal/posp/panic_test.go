package posp_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/internal/posp"
	"github.com/keyward/keyward/keys/secret"
	"github.com/keyward/keyward/sim/pos"
)

// brokenHSM has a defect in one place.
type brokenHSM struct{ posp.HSM }

func (brokenHSM) TranslatePIN(context.Context, command.PINTranslation) (secret.PINBlock, error) {
	panic("a defect for the test")
}

// TestDefectEndsTheInstance: a panic in the middle of a transaction must not leave it for ever between two states; the instance ends,
// so that its next start settles it.
func TestDefectEndsTheInstance(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.stopPOSP()
	s.wrapHSM = func(h posp.HSM) posp.HSM { return brokenHSM{h} }
	s.startPOSP()
	term := s.terminal(1, func(c *pos.Config) { c.Timeout = time.Second })
	want(t, term.SignOn(t.Context()), "00")
	if r := term.Purchase(t.Context(), pos.Sale{AmountFen: 100, PAN: card1, PIN: pin1}); r.Code == "00" {
		t.Errorf("approved: %+v", r)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.app.Wait(ctx); err == nil || !strings.Contains(err.Error(), "defect in the program") {
		t.Errorf("the instance goes on: %v", err)
	}
}
