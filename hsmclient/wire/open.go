package wire

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/keyward/keyward/hsmclient/driver"
)

const (
	// proofRequests are pipelined at once to see whether labels come back: more than two, so that a device which swaps them shows.
	proofRequests = 4
	// proofTimeout bounds the proof where ctx does not; devices need 50 to 70 ms at worst (facts/hsm.md §7).
	proofTimeout = 5 * time.Second
	// defaultFrameTimeout is Target.FrameTimeout where it is left out.
	defaultFrameTimeout = 3 * time.Second
)

// errMute is a device that took a connection and did not answer.
var errMute = errors.New("connected, but the device does not answer: check its header length, and whether it is online")

// way is how answers are matched on a channel.
type way struct {
	labelled bool // by their labels
	single   bool // one request is under way at a time
}

// Open connects and finds out whether the device gives labels back. If it does not give all of them back, or not those of several requests
// at once, another connection is made on which one request at a time is under way, and the log says so. Its answers are matched by the
// header all the same where that comes back. A device that gives back no header is taken as it is; one that was taken for such and then
// does, was only sick, and is refused: without labels a duplicate of one answer would be the answer to the next request.
func Open(ctx context.Context, cfg Config, to driver.Target) (*Channel, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("hsm %s: %w", to.Name, err)
	}
	if to.FrameTimeout <= 0 {
		to.FrameTimeout = defaultFrameTimeout
	}
	if to.Log == nil {
		to.Log = slog.New(slog.DiscardHandler)
	}
	ways := []way{{labelled: true}, {labelled: true, single: true}, {single: true}}
	if !cfg.Echo {
		ways = ways[2:]
	}
	for i, w := range ways {
		one := cfg
		one.Trailer = cfg.Trailer && !w.single // a device may give the header back and drop the trailer
		c, answered, err := open(ctx, one, to, w)
		if err == nil {
			return c, nil
		}
		if i+1 == len(ways) || !answered || ctx.Err() != nil {
			return nil, fmt.Errorf("hsm %s at %s: %w", to.Name, to.Addr, err)
		}
		if i == 0 {
			to.Log.WarnContext(ctx, "HSM does not give labels back, one request at a time on each channel: set echo (or only trailer) to false where that is so",
				"member", to.Name, "cause", err)
		}
	}
	return nil, nil //nolint:nilnil // never reached: the last way has returned
}

// open connects and asks. answered says that the device sent something back.
func open(ctx context.Context, cfg Config, to driver.Target, w way) (c *Channel, answered bool, err error) {
	nc, socket, err := dial(ctx, to)
	if err != nil {
		return nil, false, err
	}
	c = newChannel(cfg, w, to, nc, socket)
	if err := c.prove(ctx); err != nil {
		c.Close(err)
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.answered {
			err = fmt.Errorf("%w (%w)", errMute, err)
		}
		return nil, c.answered, err
	}
	return c, true, nil
}

// prove asks: several times at once where labels are to come back. All requests are in one write, so that a device which takes one
// at a time shows itself.
func (c *Channel) prove(ctx context.Context) error {
	n := 1
	if !c.single {
		n = min(proofRequests, c.header.labels()/4)
	}
	// Half of the time that there is, so that there is as much again for doing without labels.
	limit := proofTimeout
	if deadline, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(deadline)/2)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()

	request := []byte(c.cfg.Probe)
	code := codeOf(request)
	asked := make([]*call, n)
	c.mu.Lock()
	if c.cause != nil {
		defer c.mu.Unlock()
		return lost(c.cause)
	}
	for i := range asked {
		asked[i], _ = calls.Get().(*call)
		c.queue(asked[i], code, request)
	}
	c.writing = true
	batch := c.takeBatch()
	c.mu.Unlock()
	c.send(batch)
	var all error
	for _, own := range asked {
		select {
		case <-own.done:
		case <-ctx.Done():
			c.giveUp(own, ctx.Err())
			<-own.done
		}
		if own.err == nil && len(own.answer) < len(code) {
			own.err = fmt.Errorf("%w: an answer of %d bytes to %s", driver.ErrMalformed, len(own.answer), code)
		}
		all = oneLine(all, own.err)
		own.answer, own.err = nil, nil
		calls.Put(own)
	}
	return all
}

// oneLine joins next to all, in one line, because it becomes the reason in the table of members. What all says already is left out:
// requests that were asked at once as a rule fail alike.
func oneLine(all, next error) error {
	switch {
	case next == nil || all != nil && strings.Contains(all.Error(), next.Error()):
		return all
	case all == nil:
		return next
	}
	return fmt.Errorf("%w; %w", all, next)
}
