package pos

import "context"

// Echo asks whether the host is there: 0820, 60.3 = 301 (facts/unionpay.md §3).
func (t *Terminal) Echo(ctx context.Context) Result {
	return t.run(ctx, "echo", func(ctx context.Context, r *Result) {
		request := t.message("0820")
		request.fields[60] = "00" + t.state.Batch + "301"
		t.manage(ctx, r, request)
	})
}
