package core

import (
	"context"
	"fmt"

	"github.com/keyward/keyward/iso"
	"github.com/keyward/keyward/iso/core"
)

// signOn makes a new connection usable (docs/dialect-core.md §5.1). Until the bank has answered it 00 with a right MAC, the
// connection is nobody's.
func (h *Host) signOn(ctx context.Context, on line) error {
	return h.network(ctx, on, core.SignOn)
}

// signOff says farewell at Stop. The bank would find the end of the connection by itself, so a failure is only logged.
func (h *Host) signOff(ctx context.Context) {
	if !h.client.Connected() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, h.cfg.SignOffTimeout)
	defer cancel()
	if err := h.network(ctx, h.client, core.SignOff); err != nil {
		h.log.WarnContext(ctx, "no answer to the sign-off", "reason", err)
	}
}

// network exchanges one 0800 with the code of field 70.
func (h *Host) network(ctx context.Context, on line, code string) error {
	m := iso.New("0800")
	m.Set(iso.TransmissionTime, h.cfg.Now().UTC().Format(layoutTransmission))
	m.Set(iso.Trace, fmt.Sprintf("%06d", h.trace.Add(1)%1_000_000))
	m.Set(iso.Acquirer, h.cfg.AcquirerID)
	m.Set(iso.NetworkCode, code)
	answer, _, err := h.ask(ctx, on, m)
	if err != nil {
		return fmt.Errorf("0800 with code %s: %w", code, err)
	}
	if got := answer.Text(iso.ResponseCode); got != codeApproved {
		return fmt.Errorf("0800 with code %s: refused with response code %q", code, got)
	}
	return nil
}
