package controlclient

import (
	"context"
	"net/http"
	"net/url"

	"github.com/keyward/keyward/sim/control"
	"github.com/keyward/keyward/sim/pos"
)

// Terminals lists the terminals.
func (c *Client) Terminals(ctx context.Context) ([]pos.Status, error) {
	return get[[]pos.Status](ctx, c, "/v1/terminals")
}

// AddTerminal adds a terminal or changes its merchant or card.
func (c *Client) AddTerminal(ctx context.Context, t control.Terminal) (pos.Status, error) {
	return send[pos.Status](ctx, c, http.MethodPost, "/v1/terminals", t)
}

// Terminal runs a command, such as signon or purchase, and waits for its end. What came of it is in the result; the error is about
// the call. sale is used by purchase and balance.
func (c *Client) Terminal(ctx context.Context, id, command string, sale pos.Sale) (pos.Result, error) {
	path := "/v1/terminals/" + url.PathEscape(id) + "/" + url.PathEscape(command)
	return send[pos.Result](ctx, c, http.MethodPost, path, sale)
}

// TerminalHistory shows the last results of a terminal, the newest first.
func (c *Client) TerminalHistory(ctx context.Context, id string) ([]pos.Result, error) {
	return get[[]pos.Result](ctx, c, "/v1/terminals/"+url.PathEscape(id)+"/history")
}

// StartTraffic starts the generator or changes its setting.
func (c *Client) StartTraffic(ctx context.Context, t control.TrafficConfig) (control.TrafficStatus, error) {
	return send[control.TrafficStatus](ctx, c, http.MethodPost, "/v1/traffic", t)
}

// StopTraffic stops the generator.
func (c *Client) StopTraffic(ctx context.Context) (control.TrafficStatus, error) {
	return send[control.TrafficStatus](ctx, c, http.MethodDelete, "/v1/traffic", nil)
}

// Traffic tells what the generator does.
func (c *Client) Traffic(ctx context.Context) (control.TrafficStatus, error) {
	return get[control.TrafficStatus](ctx, c, "/v1/traffic")
}
