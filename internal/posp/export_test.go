package posp

import (
	"context"
	"testing"
)

// Decide runs the listener-side decision on one frame, without a socket, as handle does.
func (a *App) Decide(ctx context.Context, frame []byte) (answer []byte, closes bool) {
	in, out := a.flow.decide(ctx, origin{}, frame)
	defer a.flow.handovers.end(in.entry)
	a.flow.report(ctx, in, out, 0)
	if out.frame == nil && !out.closes && out.err == nil {
		panic("neither answer nor reason")
	}
	return out.frame, out.closes
}

// OpenHandovers is the number of transactions whose first answer is not through.
func (a *App) OpenHandovers(testing.TB) int {
	a.flow.handovers.mu.Lock()
	defer a.flow.handovers.mu.Unlock()
	return len(a.flow.handovers.open)
}

// SignedOn is the number of terminals with keys.
func (a *App) SignedOn(testing.TB) int { return a.flow.keys.Table.Len() }
