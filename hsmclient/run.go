package hsmclient

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
)

// tries lends requests. None is in a list when it is given back.
var tries = sync.Pool{New: func() any { return new(try) }}

// run holds one conversation, repeats it where that is safe, and keeps the figures. It is a function and not a method because methods
// have no type parameters.
func run[D, Q, R any](ctx context.Context, c *Cluster, p *pool, op operation, req Q, call func(D, context.Context, driver.Conversation, Q) (R, error)) (R, error) {
	t, _ := tries.Get().(*try)
	begin := time.Now()
	t.parent, t.pool, t.op, t.first = ctx, p, op, true
	t.talk = newTalk(ctx, op)
	t.talk.began = begin
	if t.class = command.PriorityOf(ctx); t.class == 0 {
		t.class = traits[op].class
	}
	result, err := converse(t, req, call)
	end := t.talk.ended
	if end.IsZero() || err != nil {
		end = time.Now()
	}
	c.observe(t, err, begin, end)
	t.giveBack()
	return result, err
}

// giveBack lets the request be used again.
func (t *try) giveBack() {
	t.talk.giveBack()
	*t = try{given: t.given}
	tries.Put(t)
}

func converse[D, Q, R any](t *try, req Q, call func(D, context.Context, driver.Conversation, Q) (R, error)) (R, error) {
	var none R
	var last error // of the member that was asked before
	if err := t.parent.Err(); err != nil {
		return none, &command.Error{Class: command.Unavailable, Command: t.op.String(), Err: err}
	}
	for sent := 0; ; {
		if err := t.pool.acquire(t); err != nil {
			t.pool.leave(t)
			if last != nil {
				return none, last // what the member said tells more than that there is no other
			}
			class := command.Unavailable
			if errors.Is(err, errNoDriver) {
				class = command.NoLicence
			}
			return none, &command.Error{Class: class, Command: t.op.String(), Err: err}
		}
		if t.lastAsked = t.node.name; t.firstAsked == "" {
			t.firstAsked = t.lastAsked
		}
		result, err := ask(t, req, call)
		next := stop
		if err != nil {
			next, err = t.verdict(err, &sent)
		} else if t.op == opVerifyMAC {
			t.match, _ = any(result).(bool)
		}
		t.pool.release(t, err, next)
		switch {
		case err == nil:
			return result, nil
		case next == stop:
			return none, err
		}
		last = err
		t.last = sent+1 >= maxSent
		t.again()
	}
}

// ask lets the driver of the member hold the conversation.
func ask[D, Q, R any](t *try, req Q, call func(D, context.Context, driver.Conversation, Q) (R, error)) (R, error) {
	d, ok := t.node.driver.(D)
	if !ok {
		var none R
		return none, &command.Error{Class: command.NoLicence, Command: t.op.String(), Err: fmt.Errorf("driver %s cannot do this", t.node.driver.Name())}
	}
	return call(d, t.talk, t.talk, req)
}

// next says what follows a failed try.
type next uint8

const (
	stop next = iota
	repeat
)

// verdict classes a failure and decides about a repeat. sent counts the tries of which the member may have seen something.
func (t *try) verdict(failure error, sent *int) (next, error) {
	var e *command.Error
	if !errors.As(failure, &e) {
		return stop, &command.Error{Class: command.CallerFault, Command: t.op.String(), Member: t.node.name, Err: failure}
	}
	if e.Class == command.CallerFault && e.Code == "" {
		return stop, failure // the driver refused before it asked the member
	}
	e.Member = t.node.name
	ending := t.talk.Err()
	if ending != nil && e.Code == "" {
		switch {
		case errors.Is(ending, errCleared):
			e.Class, e.Err = command.Unavailable, errCleared
		case !t.over() && errors.Is(ending, context.DeadlineExceeded):
			e.Class, e.Err = command.MemberFault, fmt.Errorf("no answer within %s: %w", t.talk.ended.Sub(t.talk.began).Round(time.Millisecond), orUnknown(e.Err))
		}
	}
	if traits[t.op].once && t.talk.sent && e.Code == "" {
		e.Class, e.Err = command.Unknown, fmt.Errorf("the request was sent and is never sent twice; look what the device holds: %w", orUnknown(e.Err))
		return stop, failure
	}
	t.elsewhere = t.elsewhere || e.Code != "" || e.Class == command.NoLicence
	doubtful := t.doubtful(e)
	if t.over() || errors.Is(ending, errCleared) || t.left+1 >= maxTries {
		return stop, failure
	}
	switch {
	case !t.talk.sent && e.Class != command.NoLicence: // nothing happened, so the try does not count
		return repeat, failure
	case e.Class == command.NoLicence:
		return repeat, failure
	case (e.Class == command.MemberFault || doubtful) && !traits[t.op].once:
		*sent++
		if *sent < maxSent {
			t.repeated = !doubtful // only when another answer comes was it the member
			t.pool.c.metrics.retries[t.op].Add(1)
			return repeat, failure
		}
	}
	return stop, failure
}

// over says that the caller has no time left, or has gone. Its own timer may be a moment behind.
func (t *try) over() bool {
	end, ok := t.parent.Deadline()
	return t.parent.Err() != nil || ok && !time.Now().Before(end)
}

var errNoAnswer = errors.New("no answer")

func orUnknown(err error) error {
	if err == nil {
		return errNoAnswer
	}
	return err
}
