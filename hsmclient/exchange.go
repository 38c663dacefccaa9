package hsmclient

import (
	"context"
	"errors"
	"time"

	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/hsmclient/exchangelog"
	"github.com/keyward/keyward/hsmclient/member"
)

// heard is when anything last came from the device, as a drill lets it appear.
func (l *lane) heard() time.Time {
	heard := l.ch.Heard()
	if f := l.node.fault.Load(); f != nil && f.Kind == member.FaultBlackHole && heard.After(f.since) {
		return f.since
	}
	return heard
}

// exchange is one host command, through the fault of a drill where there is one.
func (l *lane) exchange(ctx context.Context, request []byte) ([]byte, error) {
	f := l.node.fault.Load()
	if f == nil {
		return l.ch.Exchange(ctx, request)
	}
	if err := f.before(ctx, l, codeOf(request)); err != nil {
		return nil, err
	}
	answer, err := l.ch.Exchange(ctx, request)
	if late := f.after(ctx, l, codeOf(request)); late != nil {
		return nil, late
	}
	return answer, err
}

// do is the same for devices that are asked by function calls.
func (l *lane) do(ctx context.Context, code string, work func(context.Context, driver.Channel) (int, string, error)) (int, string, error) {
	f := l.node.fault.Load()
	if f != nil {
		if err := f.before(ctx, l, code); err != nil {
			return 0, "", err
		}
	}
	received, result, err := work(ctx, l.ch)
	if f != nil {
		if late := f.after(ctx, l, code); late != nil {
			return 0, "", late
		}
	}
	return received, result, err
}

// codeOf is the host command of a request: its first two letters, in every family that is asked by bytes.
func codeOf(request []byte) string {
	if len(request) < 2 {
		return ""
	}
	return string(request[:2])
}

// result is what the journal says of an exchange.
func (l *lane) result(answer []byte, err error) string {
	switch {
	case err == nil && l.node.resulter != nil:
		return l.node.resulter.ResultOf(answer)
	case err == nil:
		return "00"
	case driver.NotSent(err):
		return exchangelog.NotSent
	case errors.Is(err, context.Canceled), errors.Is(err, errCleared):
		return exchangelog.Cancelled
	case l.ch.Poisoned():
		return exchangelog.Poisoned
	}
	return exchangelog.NoAnswer
}

func (l *lane) record(j Journal, purpose, code string, began, ended time.Time, sent, received int, result string) {
	c := l.node.pool.c
	j.Record(exchangelog.Exchange{
		Serial: c.serials.Next(), At: began, Group: c.cfg.Name, Member: l.node.name, Channel: l.number, Command: code, For: purpose,
		Sent: sent, Received: received, Took: ended.Sub(began), Result: result,
	})
}

// late journals an answer whose request was given up: its result is dropped.
func (l *lane) late(late driver.Late) {
	if j := l.node.pool.c.journal(); j != nil {
		l.record(j, "", late.Command, late.At, late.At.Add(late.Took), late.Sent, late.Received, exchangelog.Dropped)
	}
}
