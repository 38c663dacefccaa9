package controlclient

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/keyward/keyward/sim/control"
	"github.com/keyward/keyward/sim/hsm"
)

// HSMs lists the devices.
func (c *Client) HSMs(ctx context.Context) ([]control.HSMStatus, error) {
	return get[[]control.HSMStatus](ctx, c, "/v1/hsms")
}

// SetHSMFaults replaces the faults of a device.
func (c *Client) SetHSMFaults(ctx context.Context, name string, f hsm.Faults) (control.HSMStatus, error) {
	return send[control.HSMStatus](ctx, c, http.MethodPut, hsmPath(name, "faults"), f)
}

// BreakHSM breaks a device: how is refuse, reset, black_hole, stall, slow, wrong_lmk or wrong_result.
func (c *Client) BreakHSM(ctx context.Context, name, how string) (control.HSMStatus, error) {
	return send[control.HSMStatus](ctx, c, http.MethodPost, hsmPath(name, "break"), map[string]string{"how": how})
}

// MendHSM takes all faults away.
func (c *Client) MendHSM(ctx context.Context, name string) (control.HSMStatus, error) {
	return send[control.HSMStatus](ctx, c, http.MethodPost, hsmPath(name, "mend"), nil)
}

// HSMHistory shows the last commands, the newest first; limit is 1 to 1000.
func (c *Client) HSMHistory(ctx context.Context, name string, limit int) ([]hsm.Entry, error) {
	return get[[]hsm.Entry](ctx, c, fmt.Sprintf("%s?limit=%d", hsmPath(name, "history"), limit))
}

// ReleaseHSM sends the withheld answers of a command and returns how many there were.
func (c *Client) ReleaseHSM(ctx context.Context, name, command string) (int, error) {
	out, err := send[struct{ Released int }](ctx, c, http.MethodPost, hsmPath(name, "release"), map[string]string{"command": command})
	return out.Released, err
}

// WaitHeldHSM waits until an answer of the command is withheld; false means that none was within the wait, which is at most a
// minute.
func (c *Client) WaitHeldHSM(ctx context.Context, name, command string, wait time.Duration) (bool, error) {
	q := url.Values{"command": {command}, "timeout": {wait.String()}}
	out, err := get[struct{ Held bool }](ctx, c, hsmPath(name, "held")+"?"+q.Encode())
	return out.Held, err
}

func hsmPath(name, what string) string { return "/v1/hsms/" + url.PathEscape(name) + "/" + what }
