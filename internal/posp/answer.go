package posp

import (
	"context"
	"time"

	"github.com/keyward/keyward/internal/posp/device"
	"github.com/keyward/keyward/internal/txn"
	"github.com/keyward/keyward/iso"
	"github.com/keyward/keyward/iso/unionpay"
	"github.com/keyward/keyward/iso/unionpay/kind"
	"github.com/keyward/keyward/iso/unionpay/profile"
	"github.com/keyward/keyward/keys/workset"
)

// incoming is one message on its way through posp.
type incoming struct {
	from     origin
	raw      []byte // as received, without the 2-byte length
	packet   *unionpay.Packet
	msg      *iso.Message
	row      kind.Row
	f60      unionpay.F60
	at       time.Time
	terminal *device.Terminal
	profile  *profile.Profile // of the terminal; nil before that is known
	set      *workset.Set     // whose MAK made the message's MAC; nil before that is known
	entry    txn.ID           // the transaction that this message began; zero for none, a repeat included
}

// outgoing is what becomes of a message. A nil frame means that nothing is answered.
type outgoing struct {
	frame  []byte
	code   string          // field 39 of the answer
	rrn    string          // field 37 of the answer
	err    error           // why it is not plainly good, for log and event
	before func() error    // called right before an approval goes to the socket; an error withholds it
	refuse func() outgoing // makes what goes out instead of a withheld approval; nil for nothing
	lost   func()          // called when not a byte of the frame was handed to the socket
	hand   *handover       // held over before, the socket and lost; nil when nobody else can answer
	closes bool            // the connection is closed: nothing after this can be trusted
}

// refuse answers without MAC: for messages whose sender is not known to have the keys.
func (f *flow) refuse(in *incoming, code, why string) outgoing {
	return f.plain(in, code, &refusal{code: code, why: why}, nil)
}

// refuseFor refuses with the code of an error: MACed when the message was authentic.
func (f *flow) refuseFor(ctx context.Context, in *incoming, err error) outgoing {
	if in.set != nil {
		out := f.answer(ctx, in, txn.Reply{Code: codeOf(err)})
		out.err = err
		return out
	}
	return f.plain(in, codeOf(err), err, nil)
}

// refuseMACed refuses an authentic message.
func (f *flow) refuseMACed(ctx context.Context, in *incoming, code, why string) outgoing {
	out := f.answer(ctx, in, txn.Reply{Code: code})
	out.err = &refusal{code: code, why: why}
	return out
}

// plain answers without MAC; fill may add fields.
func (f *flow) plain(in *incoming, code string, cause error, fill func(*iso.Message)) outgoing {
	p, err := in.answerPacket()
	if err != nil {
		return outgoing{err: err, closes: true}
	}
	f.common(in, p.Message, code)
	if fill != nil {
		fill(p.Message)
	}
	frame, err := p.Encode()
	if err != nil {
		return outgoing{err: err, closes: true}
	}
	rrn, _ := p.Message.Get(iso.Reference)
	return outgoing{frame: frame, code: code, rrn: rrn, err: cause}
}

// common fills the fields that every answer has as far as the request has them: trace, time, terminal, merchant, field 60.
func (f *flow) common(in *incoming, m *iso.Message, code string) {
	m.Copy(in.msg, iso.ProcessingCode, iso.Amount, iso.Trace, iso.ConditionCode, iso.Terminal, iso.Merchant, iso.Currency, iso.Private60)
	f.stamp(m, in.at)
	m.Set(iso.Acquirer, f.cfg.AcquirerID)
	m.Set(iso.ResponseCode, code)
}

// stamp sets local time and date; the terminal sets its clock by them.
func (f *flow) stamp(m *iso.Message, at time.Time) {
	local := at.In(f.cfg.location)
	m.Set(iso.LocalTime, local.Format("150405"))
	m.Set(iso.LocalDate, local.Format("0102"))
}

// answer makes the answer to an authentic message from a host's or our own reply, with a MAC by the key of the request.
func (f *flow) answer(ctx context.Context, in *incoming, reply txn.Reply) outgoing {
	out := outgoing{code: reply.Code, rrn: reply.RRN}
	p, err := in.answerPacket()
	if err != nil {
		out.err = err
		return out
	}
	m := p.Message
	f.common(in, m, reply.Code)
	if !reply.HostTime.IsZero() {
		f.stamp(m, reply.HostTime)
	}
	setIf(m, iso.SettlementDate, reply.SettlementDate)
	setIf(m, iso.Reference, reply.RRN)
	setIf(m, iso.AdditionalResponse, reply.Institutions)
	setIf(m, iso.Balance, reply.Balance)
	if reply.Approved() {
		setIf(m, iso.AuthCode, reply.AuthCode)
		m.Set(iso.Private63, cardOrganisation)
	}
	if v, ok := in.msg.Get(iso.SecurityControl); ok {
		// Digit 3 is cleared: nothing in an answer is an enciphered track (facts/unionpay.md §5).
		m.Set(iso.SecurityControl, v[:2]+"0"+v[3:])
	}
	if out.frame, err = f.encodeMACed(ctx, in, p); err == nil {
		return out
	}
	out.err = err
	if reply.Approved() && kinds[in.row.Kind].Recorded() {
		return out // the caller decides about the money
	}
	// A refusal needs no MAC (facts/unionpay.md §4), and a terminal that is told at once is better off than one that waits.
	return f.plain(in, codeSystem, err, nil)
}

// encodeMACed writes an answer with the MAC of the set that verified its request.
func (f *flow) encodeMACed(ctx context.Context, in *incoming, p *unionpay.Packet) ([]byte, error) {
	frame, mab, err := p.EncodeForMAC()
	if err != nil {
		return nil, err
	}
	mac, err := f.macOf(ctx, in.profile, in.set, mab)
	if err != nil {
		return nil, err
	}
	return frame, unionpay.SetMAC(frame, mac)
}

// cardOrganisation is field 63.1 of an approved answer (facts/unionpay.md §2).
const cardOrganisation = "CUP"

func setIf(m *iso.Message, field int, value string) {
	if value != "" {
		m.Set(field, value)
	}
}

// answerPacket begins the answer to a message: its type and transport header.
func (in *incoming) answerPacket() (*unionpay.Packet, error) {
	p, err := in.packet.Answer(0)
	if err == nil && in.profile != nil {
		in.profile.Answer(p, in.packet)
	}
	return p, err
}
