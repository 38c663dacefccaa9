package core

import (
	"context"

	"github.com/keyward/keyward/iso/core"
)

// echo is the sign of life that the link asks for when the bank has been silent (docs/dialect-core.md §5.2). Its failure makes the link
// connect anew.
func (h *Host) echo(ctx context.Context, on line) error {
	return h.network(ctx, on, core.Echo)
}
