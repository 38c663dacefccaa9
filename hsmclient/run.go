package hsmclient

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/internal/link"
)

// Bounds of repeating one command.
const (
	// maxSent is how often a command may be sent: once, and once more on another member (facts/hsm.md §6, point 7).
	maxSent = 2
	// maxTries also counts tries that failed before a byte was sent, on a channel that was just closing.
	maxTries = 4
)

// run holds one conversation, repeats it once on another member after a member's fault, and keeps the metrics. It is a
// function and not a method because methods have no type parameters.
func run[T any](ctx context.Context, c *Client, op operation, talk func(context.Context, driver.Conversation) (T, error)) (T, error) {
	begin := time.Now()
	result, err := tries(ctx, c, op, talk)
	c.metrics.observe(op, err, time.Since(begin))
	return result, err
}

func tries[T any](ctx context.Context, c *Client, op operation, talk func(context.Context, driver.Conversation) (T, error)) (T, error) {
	var none T
	var last error // of the member that was asked before
	var not *member
	sent := 0
	for range maxTries {
		ch, err := c.acquire(ctx, not)
		if err != nil {
			if last != nil {
				return none, last // what the member said tells more than that there is no other
			}
			return none, &command.Error{Class: command.Unavailable, Command: op.String(), Err: err}
		}
		result, err := once(ctx, c, ch, talk)
		if err == nil {
			return result, nil
		}
		last = err
		if ctx.Err() != nil {
			return none, err
		}
		if notSent(err) {
			// Nothing happened, so the try does not count. The channel is closing and looks idle until its link has said so:
			// ask another member, or where there is none wait for that news.
			not = c.elsewhere(ctx, ch.member)
			continue
		}
		sent++
		if class := command.ClassOf(err); sent >= maxSent || class != command.MemberFault && class != command.NoLicence {
			return none, err
		}
		not = ch.member
		c.metrics.retries[op].Inc()
		c.cfg.Log.WarnContext(ctx, "HSM command is repeated on another member, a late result is dropped", "command", op.String(), "cause", err)
	}
	return none, last
}

// once holds the conversation on one channel within the time-out of a member.
func once[T any](ctx context.Context, c *Client, ch *channel, talk func(context.Context, driver.Conversation) (T, error)) (T, error) {
	defer c.release(ch)
	nc := ch.conn.Load()
	began := time.Now()
	bounded, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	result, err := talk(bounded, conversation{ch: ch, via: ch.link})
	if err == nil {
		return result, nil
	}
	var none T
	var e *command.Error
	if !errors.As(err, &e) {
		return none, &command.Error{Class: command.CallerFault, Member: ch.member.cfg.Name, Err: err}
	}
	if e.Class == command.CallerFault && e.Code == "" {
		return none, err // the driver refused before it asked the member
	}
	e.Member = ch.member.cfg.Name
	switch {
	case errors.Is(err, driver.ErrMalformed):
		ch.poison(nc, resetMalformed, err)
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil && !notSent(err):
		e.Err = fmt.Errorf("no answer within %s: %w", c.cfg.Timeout, e.Err)
		// Other answers came meanwhile: this one was lost or is slow. None came: the channel is dead.
		if ch.heard.Load() < began.UnixNano() {
			ch.poison(nc, resetSilent, e.Err)
		}
	}
	return none, err
}

// notSent says that no byte of the command was handed to the socket.
func notSent(err error) bool {
	var e *link.Error
	return errors.As(err, &e) && e.Outcome == link.NotSent
}
