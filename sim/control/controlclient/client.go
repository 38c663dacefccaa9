// Package controlclient calls the control API of the simulators (docs/simulators.md): for tests, demonstrations and the
// programs that run the simulators.
package controlclient

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// maxAnswer bounds what is read of one answer: the bank's book with its longest list is below.
const maxAnswer = 64 << 20

// Client calls one control API. It is safe for concurrent use. All its errors are *Error when the API refused.
type Client struct {
	base string
	http *http.Client
}

// New makes a client. base is for example http://127.0.0.1:8090; a nil hc means http.DefaultClient. No time-out is added to those
// of ctx and hc: a terminal may take minutes.
func New(base string, hc *http.Client) *Client {
	if hc == nil {
		hc = http.DefaultClient
	}
	return &Client{base: strings.TrimSuffix(base, "/"), http: hc}
}

// Error is a refusal: the problem document of the answer.
type Error struct {
	Status   int    `json:"status"` // of HTTP
	Detail   string `json:"detail"`
	NextStep string `json:"next_step"`
}

// Error says what was refused and what can be done.
func (e *Error) Error() string {
	text := fmt.Sprintf("simulators' control API: %d %s", e.Status, http.StatusText(e.Status))
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	if e.NextStep != "" {
		text += "; " + e.NextStep
	}
	return text
}

// Ready is nil when all simulators run.
func (c *Client) Ready(ctx context.Context) error {
	return c.call(ctx, http.MethodGet, "/readyz", nil, nil)
}

// call sends in as JSON unless it is nil and reads the answer into out unless that is nil.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("simulators' control API: encode the request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return fmt.Errorf("simulators' control API: %w", err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("simulators' control API: %w; is `keyward dev` or `keyward sim` running?", err)
	}
	defer func() { _ = resp.Body.Close() }() // only read
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("simulators' control API: read the answer: %w", err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		refused := &Error{}
		_ = json.Unmarshal(raw, refused) // an answer that is no problem document leaves the status alone
		refused.Status = resp.StatusCode
		return refused
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("simulators' control API: the answer is not what was expected: %w", err)
	}
	return nil
}

// get calls GET and returns the answer.
func get[T any](ctx context.Context, c *Client, path string) (out T, err error) {
	err = c.call(ctx, http.MethodGet, path, nil, &out)
	return out, err
}

// send calls another method and returns the answer.
func send[T any](ctx context.Context, c *Client, method, path string, in any) (out T, err error) {
	err = c.call(ctx, method, path, in, &out)
	return out, err
}
