package posp

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/keyward/keyward/internal/link"
	"github.com/keyward/keyward/iso"
	"github.com/keyward/keyward/iso/unionpay"
	"github.com/keyward/keyward/iso/unionpay/kind"
)

// handle takes one frame from a terminal's connection, has a flow decide, and hands over the answer.
func (f *flow) handle(ctx context.Context, conn *link.Conn, from origin, frame []byte) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, f.cfg.TotalTimeout.Std())
	defer cancel()
	in, out := f.decide(ctx, from, frame)
	defer f.handovers.end(in.entry)
	if out.closes {
		f.metrics.framing.Inc()
		f.log.WarnContext(ctx, "framing fault, connection closed", "remote", conn.RemoteAddr().String(), "error", out.err)
		conn.Close()
		return
	}
	f.hand(ctx, conn, in, &out)
	f.report(ctx, in, out, time.Since(began))
}

// hand gives the answer to the socket, with what has to be recorded before, and what has to be undone when not a byte of
// it went out.
func (f *flow) hand(ctx context.Context, conn *link.Conn, in *incoming, out *outgoing) {
	if out.hand == nil {
		out.hand = &handover{}
	}
	out.hand.Lock()
	defer out.hand.Unlock()
	err := f.write(ctx, conn, out)
	if err == nil || link.OutcomeOf(err) != link.NotSent {
		out.hand.done = out.hand.done || out.before != nil
	} else if out.lost != nil && !out.hand.done {
		out.lost()
	}
	if err == nil {
		return
	}
	out.err = errors.Join(out.err, err)
	f.log.InfoContext(ctx, "answer could not be handed over", "terminal", in.terminalID(), "error", err)
}

// write gives the answer to the socket, after the journal knows of it.
func (f *flow) write(ctx context.Context, conn *link.Conn, out *outgoing) error {
	notSent := func(err error) error { return &link.Error{Outcome: link.NotSent, Link: "terminals", Err: err} }
	if out.frame == nil {
		out.before = nil
		if out.lost == nil {
			return nil
		}
		return notSent(errors.New("there is no answer"))
	}
	if out.before != nil {
		if err := out.before(); err != nil {
			out.before, out.frame = nil, nil
			if out.refuse == nil {
				return notSent(err)
			}
			instead := out.refuse()
			out.frame, out.code, out.err = instead.frame, instead.code, errors.Join(out.err, err, instead.err)
			if out.frame == nil {
				return nil
			}
		}
	}
	return conn.Write(context.WithoutCancel(ctx), out.frame)
}

// decide is step 1 and the first half of step 2 of every flow: decode, look the terminal up, and choose the flow.
func (f *flow) decide(ctx context.Context, from origin, frame []byte) (*incoming, outgoing) {
	// Step 1: decode. A fault in front of the message ends the connection; one inside is answered 30.
	in := &incoming{from: from, raw: frame, at: f.now()}
	packet, err := unionpay.Parse(frame, f.cfg.parseOptions...)
	if packet == nil {
		return in, outgoing{err: err, closes: true}
	}
	in.packet, in.msg = packet, packet.Message
	if err != nil {
		return in, f.malformed(in, err)
	}
	if _, ok := iso.AnswerMTI(in.msg.MTI()); !ok {
		return in, f.malformed(in, &iso.DecodeError{Reason: iso.BadMTI, Partial: in.msg})
	}
	f60, _ := in.msg.Get(iso.Private60)
	if in.f60, err = unionpay.ParseF60(f60); err != nil {
		return in, f.malformed(in, err)
	}
	row, known := unionpay.Classify(in.msg)
	in.row = row
	if missing := missingField(in.msg, row); missing != 0 {
		return in, f.malformed(in, &iso.DecodeError{Field: missing, Reason: iso.Short, Partial: in.msg})
	}

	// Step 2: the terminal, from memory; one that memory does not know is looked up once.
	id, _ := in.msg.Get(iso.Terminal)
	if refused := f.lookup(ctx, in, id); refused != nil {
		return in, *refused
	}
	// Who sent it, and how many of them: before anything costs the HSM or the database.
	if refused := f.may(in); refused != nil {
		return in, *refused
	}
	if !known {
		return in, f.refuse(in, codeUnsupported, "transaction is not in the table of this dialect")
	}
	if row.Kind == kind.SignOn {
		return in, f.signOn(ctx, in) // in a queue of its own, so that a storm takes no place of a transaction
	}
	release, err := f.admission.transaction(ctx)
	if err != nil {
		return in, f.plain(in, codeSystem, err, nil)
	}
	defer release()
	switch row.Kind {
	case kind.SignOff:
		return in, f.managed(ctx, in, f.signOff)
	case kind.Echo:
		return in, f.managed(ctx, in, func(*incoming) error { return nil })
	case kind.Reversal:
		return in, f.trade(ctx, in, f.reversal)
	default:
		if _, ok := kinds[row.Kind]; ok {
			return in, f.trade(ctx, in, f.purchase)
		}
		if onDemand[row.Kind] {
			return in, f.trade(ctx, in, f.refuseOnDemand)
		}
		return in, f.refuse(in, codeUnsupported, string(row.Kind)+" is not served")
	}
}

// trade runs a flow that needs an active terminal.
func (f *flow) trade(ctx context.Context, in *incoming, next func(context.Context, *incoming) outgoing) outgoing {
	if err := in.terminal.CheckActive(); err != nil {
		return f.plain(in, codeNotAllowed, err, nil)
	}
	return next(ctx, in)
}

// lookup finds the terminal and holds the merchant against it.
func (f *flow) lookup(ctx context.Context, in *incoming, id string) *outgoing {
	terminal, ok := f.devices.Lookup(id)
	if !ok && f.admission.mayReload() {
		reloadCtx, cancel := context.WithTimeout(ctx, reloadTimeout)
		if err := f.reload(reloadCtx, id); err != nil {
			f.log.DebugContext(ctx, "reload of a terminal failed", "error", err)
		}
		cancel()
		terminal, ok = f.devices.Lookup(id)
	}
	if !ok {
		out := f.refuse(in, codeUnknownTerm, "terminal is not registered")
		return &out
	}
	in.terminal = terminal
	if in.profile, ok = f.profiles.Find(terminal.Profile); !ok {
		out := f.refuse(in, codeSystem, "the registry gives the terminal the profile "+terminal.Profile+", which this posp does not have; add it to profiles in its configuration")
		return &out
	}
	if err := in.profile.CheckCaller(in.packet); err != nil {
		out := f.plain(in, codeFormat, err, nil)
		return &out
	}
	if merchant, _ := in.msg.Get(iso.Merchant); merchant != terminal.Merchant {
		out := f.refuse(in, codeMerchant, "merchant is not the terminal's")
		return &out
	}
	return nil
}

// unreadableMTI is the type that a message without a readable one is taken for, so that its sender hears of the fault.
const unreadableMTI = "0800"

// malformed answers 30 with trace, terminal and merchant as far as they were decoded. A message that is itself an answer is never
// answered: two ends could go on with it for ever. It closes the connection.
func (f *flow) malformed(in *incoming, cause error) outgoing {
	f.metrics.malformed.Inc()
	if in.msg.MTI() == "" {
		in.msg.SetMTI(unreadableMTI)
	}
	p, err := in.answerPacket()
	if err != nil {
		return outgoing{err: cause, closes: true}
	}
	p.Message.Copy(in.msg, iso.Trace, iso.Terminal, iso.Merchant)
	p.Message.Set(iso.ResponseCode, codeFormat)
	frame, err := p.Encode()
	if err != nil {
		return outgoing{err: errors.Join(cause, err), closes: true}
	}
	return outgoing{frame: frame, code: codeFormat, err: cause}
}

func (in *incoming) terminalID() string {
	if in.terminal == nil {
		return ""
	}
	return in.terminal.ID
}

// report writes the one line and the one event of a message.
func (f *flow) report(ctx context.Context, in *incoming, out outgoing, took time.Duration) {
	name := "malformed"
	if in.row.Kind != "" {
		name = string(in.row.Kind)
	}
	code := out.code
	if out.frame == nil {
		code = "none"
	}
	f.metrics.message(name, code, took)
	e := Event{At: in.at, Kind: name, Terminal: in.terminalID(), Code: code, RRN: out.rrn, Took: took}
	if in.msg != nil {
		if pan, err := in.msg.CardNumber(); err == nil {
			e.Card = pan.Masked()
		}
		e.Trace, _ = in.msg.Get(iso.Trace)
		if v, ok := in.msg.Get(iso.Amount); ok {
			e.Amount, _ = iso.ParseAmount(v)
		}
	}
	if out.err != nil {
		e.Reason = strings.ReplaceAll(out.err.Error(), "\n", "; ") // joined errors have a line each
	}
	f.events.publish(e)
	level := slog.LevelInfo
	if code != codeOK {
		level = slog.LevelWarn
	}
	f.log.Log(ctx, level, "message", "kind", name, "terminal", e.Terminal, "trace", e.Trace, "code", code, "rrn", e.RRN,
		"card", e.Card, "ms", float64(took.Microseconds())/1000, "reason", strings.TrimSpace(e.Reason))
}
