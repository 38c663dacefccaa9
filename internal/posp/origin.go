package posp

import (
	"errors"
	"net"
	"net/netip"

	"github.com/keyward/keyward/internal/link"
	"github.com/keyward/keyward/internal/posp/access"
	"github.com/keyward/keyward/iso/unionpay/kind"
)

// origin is the connection that a message came by. The zero value is no connection.
type origin struct {
	conn    *link.Conn
	gate    *access.Gate // nil on a plain listener
	private bool         // two people declared the listener private
	bound   bool         // the connection's certificate is the terminal's own; set by may
}

// protected says that nobody between terminal and posp can have altered the message, as far as the configuration knows.
func (o *origin) protected() bool { return o.gate != nil || o.private }

// checkLine refuses, in a production profile, a terminal whose MAC can be forged by whoever can alter the line, unless the line is
// protected: by TLS, or because two people said so (docs/security.md).
func (f *flow) checkLine(in *incoming) error {
	if !f.strict || in.from.protected() || !in.profile.Forgeable(in.terminal.Algorithm) {
		return nil
	}
	return &refusal{code: codeNotAllowed, why: "the MAC of profile " + in.profile.Name + " can be forged by whoever can alter the line: " +
		"give the listener tls, have two people declare it private (private_by), or move the terminal to a profile with another MAC"}
}

// address is the peer's address, the zero one when there is no connection.
func (o *origin) address() netip.Addr {
	if o.conn == nil {
		return netip.Addr{}
	}
	if tcp, ok := o.conn.RemoteAddr().(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// may says whether the connection may carry this terminal's message, and in this number: nil for yes. It is the last look before a
// message can cost the HSM or the database anything.
func (f *flow) may(in *incoming) *outgoing {
	if o := &in.from; o.gate != nil && o.conn != nil {
		state, _ := o.conn.TLS()
		var err error
		o.bound, err = o.gate.Check(state, in.terminal.ID)
		switch {
		case errors.Is(err, access.ErrNoStanding):
			f.admission.metrics.noStanding.Inc()
			return &outgoing{err: err, closes: true}
		case err != nil:
			f.admission.metrics.otherTerminal.Inc()
			out := f.plain(in, codeNotAllowed, err, nil)
			return &out
		}
	}
	// A number can be made up by anybody: what others send in its name counts against their address. The owner of a bound connection
	// is known.
	key := rateKey{terminal: in.terminal.ID, reversal: in.row.Kind == kind.Reversal}
	if !in.from.bound {
		key.source = in.from.address()
	}
	if !f.admission.rate.allow(key, f.now()) {
		f.admission.metrics.rateLimited.Inc()
		out := f.plain(in, codeSystem, errTooFast, nil)
		return &out
	}
	return nil
}
