package hsmclient

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/keyward/keyward/keys"
)

// errStopped is the cause when a command comes after Stop.
var errStopped = errors.New("the HSM client is stopped")

// Client offers the capabilities of package command over the members of one LMK domain. It is safe for concurrent use.
// Use it once: New, Start, Stop.
type Client struct {
	cfg     Config
	metrics *metrics
	members []*member

	mu       sync.Mutex // guards all below; never held while waiting
	channels []*channel // of all members, in the order of the configuration
	next     int        // where the search for a channel begins, so that equals take turns
	waiting  []*waiter  // callers without a place, oldest first
	lmkCheck keys.KCV   // of the domain, "" until the first member has answered
	started  bool
	stopped  bool
	running  sync.WaitGroup // commands in progress; Add only under mu while not stopped
	changed  chan struct{}  // closed and replaced when a channel becomes usable or a member is refused
}

// New checks the configuration; nothing is connected before Start.
func New(cfg Config) (*Client, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(cfg)
	if err != nil {
		return nil, fmt.Errorf("hsm client %s: %w", cfg.Name, err)
	}
	c := &Client{cfg: cfg, metrics: m, lmkCheck: cfg.LMKCheck, changed: make(chan struct{})}
	for _, mc := range cfg.Members {
		member, err := c.newMember(mc)
		if err != nil {
			m.unregister()
			return nil, fmt.Errorf("hsm client %s: %w", cfg.Name, err)
		}
		c.members = append(c.members, member)
		c.channels = append(c.channels, member.channels...)
	}
	return c, nil
}

// Start begins to connect to all members and returns at once; Wait tells when one is admitted. The end of ctx does not stop
// the client: Stop does.
func (c *Client) Start(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.started || c.stopped {
		return fmt.Errorf("hsm client %s: started twice, or after stop", c.cfg.Name)
	}
	c.started = true
	for _, ch := range c.channels {
		if err := ch.link.Start(ctx); err != nil {
			return fmt.Errorf("hsm client %s: %w", c.cfg.Name, err)
		}
	}
	return nil
}

// Stop refuses new commands, waits for those in progress until ctx ends, and closes the connections; what is still under way
// then fails. It may be called before Start and more than once.
func (c *Client) Stop(ctx context.Context) error {
	c.mu.Lock()
	c.stopped = true
	for _, w := range c.waiting {
		close(w.got)
	}
	c.waiting = nil
	c.mu.Unlock()

	drained := make(chan struct{})
	go func() {
		c.running.Wait()
		close(drained)
	}()
	var err error
	select {
	case <-drained:
	case <-ctx.Done():
		err = fmt.Errorf("hsm client %s: stopped with commands in progress: %w", c.cfg.Name, context.Cause(ctx))
	}
	var closing sync.WaitGroup
	errs := make([]error, len(c.channels))
	for i, ch := range c.channels {
		closing.Go(func() { errs[i] = ch.link.Stop(ctx) })
	}
	closing.Wait()
	c.metrics.unregister()
	if err != nil {
		return err
	}
	return errors.Join(errs...)
}

// Wait returns nil as soon as a member is admitted, else why none is when ctx ends.
func (c *Client) Wait(ctx context.Context) error {
	for {
		c.mu.Lock()
		usable, changed, stopped := c.anyUsable(), c.changed, c.stopped
		c.mu.Unlock()
		switch {
		case usable:
			return nil
		case stopped:
			return errStopped
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("hsm client %s: %w", c.cfg.Name, c.noMember())
		}
	}
}

// noMember says of each member why it is not there.
func (c *Client) noMember() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := "no member is connected"
	for _, m := range c.members {
		why := "not connected yet"
		if m.lastErr != nil {
			why = m.lastErr.Error()
		}
		text += "; " + m.cfg.Name + ": " + why
	}
	return errors.New(text)
}
