package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
)

// connect keeps a connection until ctx ends: dial, sign on, publish, watch, and again after a pause.
func (c *Client[K]) connect(ctx context.Context) {
	defer close(c.ended)
	pause := c.cfg.Backoff.Min
	failing := false
	for ctx.Err() == nil {
		began := time.Now()
		s, err := c.attempt(ctx)
		if err == nil {
			failing = false
			c.metrics.connects.Inc()
			c.cfg.Log.InfoContext(ctx, "connected", "remote", s.RemoteAddr().String())
			c.publish(s, nil)
			err = c.watch(ctx, s)
			c.publish(nil, err)
			s.close(err)
			s.routines.Wait()
			if ctx.Err() == nil {
				c.cfg.Log.WarnContext(ctx, "connection lost, connecting again", "cause", err)
			}
			// A peer that takes connections only to drop them is not found healthy: the pause starts anew only after a
			// connection that held for longer than it.
			if time.Since(began) > pause {
				pause = c.cfg.Backoff.Min
			}
		} else {
			c.metrics.failures.Inc()
			c.publish(nil, err)
			if !failing && ctx.Err() == nil { // one line per outage, not one per attempt
				c.cfg.Log.WarnContext(ctx, "cannot connect, trying on", "cause", err)
			}
			failing = true
		}
		select {
		case <-time.After(jittered(pause)):
		case <-ctx.Done():
		}
		pause = min(2*pause, c.cfg.Backoff.Max)
	}
}

// attempt dials and runs OnConnect, both within ConnectTimeout.
func (c *Client[K]) attempt(ctx context.Context) (*Session[K], error) {
	bounded, cancel := context.WithTimeoutCause(ctx, c.cfg.ConnectTimeout, fmt.Errorf("connect to %s: no success within %s", c.cfg.Name, c.cfg.ConnectTimeout))
	defer cancel()
	nc, under, err := c.dial(bounded)
	if err != nil {
		return nil, err
	}
	s := newSession(&c.cfg, c.metrics, &c.frames, nc, under)
	if err := c.signOn(bounded, s); err != nil {
		s.close(err)
		s.routines.Wait()
		return nil, err
	}
	return s, nil
}

// signOn runs OnConnect; a panic in it costs the attempt only.
func (c *Client[K]) signOn(ctx context.Context, s *Session[K]) error {
	if c.cfg.OnConnect == nil {
		return nil
	}
	if err := guarded(ctx, s, c.cfg.OnConnect); err != nil {
		return fmt.Errorf("sign-on to %s: %w", c.cfg.Name, err)
	}
	return s.err() // the peer may have hung up right after the answer
}

// guarded turns a panic of the caller's function into an error.
func guarded[K comparable](ctx context.Context, s *Session[K], fn func(context.Context, *Session[K]) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %s", panicText(v))
		}
	}()
	return fn(ctx, s)
}

// dial makes the connection; for TLS the bytes are counted underneath it.
func (c *Client[K]) dial(ctx context.Context) (net.Conn, *countingConn, error) {
	if c.cfg.Dial != nil {
		nc, err := c.cfg.Dial(ctx)
		if err == nil && nc == nil {
			err = errors.New("dial function returned neither connection nor error")
		}
		if err != nil {
			return nil, nil, fmt.Errorf("connect to %s: %w", c.cfg.Name, err)
		}
		return nc, nil, nil
	}
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", c.cfg.Addr)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to %s: %w", c.cfg.Name, err)
	}
	if c.cfg.TLS == nil {
		return raw, nil, nil
	}
	cfg := c.cfg.TLS.Clone()
	if cfg.ServerName == "" {
		// As crypto/tls.Dial does: the certificate must belong to the host that we meant to reach.
		if host, _, err := net.SplitHostPort(c.cfg.Addr); err == nil {
			cfg.ServerName = host
		}
	}
	under := &countingConn{Conn: raw}
	t := tls.Client(under, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		_ = raw.Close() // the handshake's error is the one to tell
		return nil, nil, fmt.Errorf("connect to %s: TLS handshake: %w", c.cfg.Name, err)
	}
	return t, under, nil
}

// publish makes a connection (or none) the one that requests use, and tells everybody who waits.
func (c *Client[K]) publish(s *Session[K], cause error) {
	c.mu.Lock()
	was := c.session != nil
	c.session, c.lastErr = s, cause
	close(c.changed)
	c.changed = make(chan struct{})
	c.mu.Unlock()
	if was == (s != nil) {
		return
	}
	if s != nil {
		c.metrics.connected.Set(1)
	} else {
		c.metrics.connected.Set(0)
	}
	if c.cfg.OnState != nil {
		c.cfg.OnState(s != nil, cause)
	}
}

// watch returns why the connection is no longer usable. Between, it asks for a sign of life whenever the peer was silent.
func (c *Client[K]) watch(ctx context.Context, s *Session[K]) error {
	var tick <-chan time.Time
	var timer *time.Timer
	if c.cfg.KeepAlive.Every > 0 {
		timer = time.NewTimer(c.cfg.KeepAlive.Every)
		defer timer.Stop()
		tick = timer.C
	}
	for {
		select {
		case <-s.closed:
			return s.err()
		case <-ctx.Done():
			return ErrStopped
		case <-tick:
			silent := time.Since(time.Unix(0, s.heard.Load()))
			if silent >= c.cfg.KeepAlive.Every {
				if err := c.ask(ctx, s); err != nil {
					return fmt.Errorf("%w: keep-alive: %w", ErrConnectionLost, err)
				}
				silent = 0
			}
			timer.Reset(c.cfg.KeepAlive.Every - silent)
		}
	}
}

// ask does one keep-alive exchange.
func (c *Client[K]) ask(ctx context.Context, s *Session[K]) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.KeepAlive.Timeout)
	defer cancel()
	return guarded(ctx, s, c.cfg.KeepAlive.Ask)
}
