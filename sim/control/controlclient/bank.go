package controlclient

import (
	"context"
	"fmt"
	"net/http"

	"github.com/keyward/keyward/sim/bank"
)

// SetBankFaults replaces the bank's bad manners; none at all mends it.
func (c *Client) SetBankFaults(ctx context.Context, faults ...bank.Fault) error {
	if len(faults) == 0 {
		return c.call(ctx, http.MethodDelete, "/v1/bank/faults", nil, nil)
	}
	return c.call(ctx, http.MethodPut, "/v1/bank/faults", map[string]any{"faults": faults}, nil)
}

// BankBook is balances, bookings and totals.
func (c *Client) BankBook(ctx context.Context) (bank.Book, error) {
	return get[bank.Book](ctx, c, "/v1/bank/book")
}

// BankHistory shows the last messages, the oldest first; limit 0 means all that are kept.
func (c *Client) BankHistory(ctx context.Context, limit int) ([]bank.Entry, error) {
	path := "/v1/bank/history"
	if limit > 0 {
		path = fmt.Sprintf("%s?limit=%d", path, limit)
	}
	out, err := get[struct{ History []bank.Entry }](ctx, c, path)
	return out.History, err
}

// ResetBank puts balances and PIN tries back and empties book and history.
func (c *Client) ResetBank(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/v1/bank/reset", nil, nil)
}

// ReleaseBank sends the answers that the fault hold keeps and returns how many there were.
func (c *Client) ReleaseBank(ctx context.Context) (int, error) {
	out, err := send[struct{ Released int }](ctx, c, http.MethodPost, "/v1/bank/release", nil)
	return out.Released, err
}
