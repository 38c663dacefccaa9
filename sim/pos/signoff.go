package pos

import (
	"context"
	"errors"
)

// SignOff ends the session with the host: 0820, 60.3 = 002 (facts/unionpay.md §3). A pending reversal and stored
// messages go first, because the keys and the batch that they need end with the session.
func (t *Terminal) SignOff(ctx context.Context) Result {
	return t.run(ctx, "signoff", func(ctx context.Context, r *Result) {
		if !t.settle(ctx, r) {
			return
		}
		if t.deliver(ctx, r); len(t.state.Stored) > 0 {
			r.fail(errors.New("messages are still stored; try `pos deliver`, after `pos signon` where the terminal is signed off"))
			return
		}
		request := t.message("0820")
		request.fields[60] = "00" + t.state.Batch + "002"
		if _, ok := t.manage(ctx, r, request); ok {
			t.state.SignedOn = false
		}
	})
}
