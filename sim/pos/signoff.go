package pos

import "context"

// SignOff ends the session with the host: 0820, 60.3 = 002 (facts/unionpay.md §3). A pending reversal goes first, because
// the keys that it needs end with the session.
func (t *Terminal) SignOff(ctx context.Context) Result {
	return t.run(ctx, "signoff", func(ctx context.Context, r *Result) {
		if !t.settle(ctx, r) {
			return
		}
		request := t.message("0820")
		request.fields[60] = "00" + t.state.Batch + "002"
		if _, ok := t.manage(ctx, r, request); ok {
			t.state.SignedOn = false
		}
	})
}
