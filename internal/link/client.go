package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Limits of a client where the configuration leaves them zero.
const (
	// defaultClientInFlight bounds the requests on one connection: more than an HSM or host works on at once.
	defaultClientInFlight = 256
	// defaultLateWindow is how long a key whose request was given up stays reserved: longer than any peer's own time-out.
	defaultLateWindow = time.Minute
	// defaultConnectTimeout bounds dialling, the TLS handshake and OnConnect together.
	defaultConnectTimeout = 10 * time.Second
	// Backoff bounds: quick enough that a restarted peer is found within a second, slow enough not to load a sick one.
	defaultBackoffMin = 100 * time.Millisecond
	defaultBackoffMax = 10 * time.Second
)

// ClientConfig describes a client whose answers are matched by keys of type K (a string or an array). Name, Key and one of
// Dial and Addr are required.
type ClientConfig[K comparable] struct {
	// Name appears in logs, metrics and errors, for example "bank".
	Name string
	// Dial makes a connection; it must end when ctx does. With Dial, Addr and TLS are not used.
	Dial func(ctx context.Context) (net.Conn, error)
	// Addr is host:port of the peer.
	Addr string
	// TLS, when not nil, is spoken with the peer at Addr.
	TLS *tls.Config
	// MaxFrame is the longest frame in bytes, both ways (default DefaultMaxFrame, at most 65535).
	MaxFrame int
	// MaxInFlight bounds the requests on the connection; a further Exchange waits for a place until its ctx ends (default 256).
	MaxInFlight int
	// Key finds the key in an answer; the same key must have been given to Exchange. It must not keep the frame. An error makes
	// the frame a stray.
	Key func(frame []byte) (K, error)
	// RepeatKeys says that the same key always means the same request sent again (a reversal repeated until answered), so that an
	// answer to an earlier sending answers the later one. Otherwise the key of a request that was given up is refused
	// (ErrKeyInUse) on the same connection until its late answer has come or LateWindow is over.
	RepeatKeys bool
	// LateWindow is how long the key of a request that was given up is remembered (default 1 minute).
	LateWindow time.Duration
	// OnConnect, when not nil, runs on each new connection before it is usable, for example a sign-on by session.Exchange. An
	// error closes the connection and counts as a failed attempt.
	OnConnect func(ctx context.Context, session *Session[K]) error
	// OnState, when not nil, hears of each change: true when the connection has become usable, false with the cause when it is no
	// more. It is called in order, from one goroutine, and must return quickly.
	OnState func(connected bool, cause error)
	// OnStray, when not nil, receives answers that came after their request was given up and, without Poison, frames that belong
	// to no request. It runs on the reading goroutine and must return quickly.
	OnStray func(frame []byte)
	// Poison closes the connection on a frame that belongs to no request, is a duplicate or has no readable key (HSM channels: after
	// it no further answer can be trusted). An answer that is merely late is known as such and does not poison.
	Poison bool
	// KeepAlive asks for a sign of life when the peer has been silent.
	KeepAlive KeepAlive[K]
	// Backoff bounds the waits between attempts to connect.
	Backoff Backoff
	// ConnectWait is how long Exchange waits for a connection when there is none (default 0: it fails at once).
	ConnectWait time.Duration
	// ConnectTimeout bounds one attempt: dialling, handshake and OnConnect together (default 10 s).
	ConnectTimeout time.Duration
	// FrameTimeout bounds the rest of an answer whose first byte has come (default 10 s).
	FrameTimeout time.Duration
	// WriteTimeout bounds one write (default 10 s).
	WriteTimeout time.Duration
	// Log receives changes of the connection, never content (default: nowhere).
	Log *slog.Logger
	// Registerer receives the metrics keyward_link_client_* with the label link=Name (default: none).
	Registerer prometheus.Registerer
}

// KeepAlive asks the peer for a sign of life.
type KeepAlive[K comparable] struct {
	// Every is how long the peer may be silent before Ask is called; 0 turns keep-alive off.
	Every time.Duration
	// Timeout bounds Ask (default: Every).
	Timeout time.Duration
	// Ask does one harmless exchange (an echo). An error closes the connection and a new one is made.
	Ask func(ctx context.Context, session *Session[K]) error
}

// Backoff bounds the waits between attempts to connect: they double from Min to Max, each shortened by up to a half at random,
// so that many clients do not come back at the same moment.
type Backoff struct {
	// Min is the first wait (default 100 ms).
	Min time.Duration
	// Max is the longest wait (default 10 s).
	Max time.Duration
}

// Client keeps one connection to one peer and matches answers to requests. Use it once: New, Start, Stop.
type Client[K comparable] struct {
	cfg     ClientConfig[K]
	metrics *clientMetrics
	frames  buffers
	places  chan struct{} // one token per request in flight

	mu       sync.Mutex
	session  *Session[K]   // usable connection, or nil
	lastErr  error         // why there is none
	changed  chan struct{} // closed and replaced when session changes
	started  bool
	stopped  bool
	stopping chan struct{}      // closed by Stop: new requests are refused
	cancel   context.CancelFunc // ends the connecting goroutine
	ended    chan struct{}      // closed when it has ended
}

// NewClient checks the configuration and fills in defaults.
func NewClient[K comparable](cfg ClientConfig[K]) (*Client[K], error) {
	if cfg.Name == "" || cfg.Key == nil {
		return nil, errors.New("link client: name and key function are required")
	}
	if cfg.Dial == nil && cfg.Addr == "" {
		return nil, fmt.Errorf("link client %s: neither dial function nor address given", cfg.Name)
	}
	cfg.MaxFrame = orDefault(cfg.MaxFrame, DefaultMaxFrame)
	if cfg.MaxFrame > maxFrameLimit {
		return nil, fmt.Errorf("link client %s: longest frame %d is above %d", cfg.Name, cfg.MaxFrame, maxFrameLimit)
	}
	if cfg.KeepAlive.Every > 0 && cfg.KeepAlive.Ask == nil {
		return nil, fmt.Errorf("link client %s: keep-alive without a function that asks", cfg.Name)
	}
	cfg.KeepAlive.Timeout = orDefault(cfg.KeepAlive.Timeout, cfg.KeepAlive.Every)
	cfg.MaxInFlight = orDefault(cfg.MaxInFlight, defaultClientInFlight)
	cfg.LateWindow = orDefault(cfg.LateWindow, defaultLateWindow)
	cfg.Backoff.Min = orDefault(cfg.Backoff.Min, defaultBackoffMin)
	cfg.Backoff.Max = max(cfg.Backoff.Min, orDefault(cfg.Backoff.Max, defaultBackoffMax))
	cfg.ConnectTimeout = orDefault(cfg.ConnectTimeout, defaultConnectTimeout)
	cfg.FrameTimeout = orDefault(cfg.FrameTimeout, defaultFrameTimeout)
	cfg.WriteTimeout = orDefault(cfg.WriteTimeout, defaultWriteTimeout)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Log = cfg.Log.With("component", "link", "link", cfg.Name)
	m, err := newClientMetrics(cfg.Registerer, cfg.Name)
	if err != nil {
		return nil, fmt.Errorf("link client %s: %w", cfg.Name, err)
	}
	return &Client[K]{
		cfg: cfg, metrics: m, places: make(chan struct{}, cfg.MaxInFlight), lastErr: errors.New("not started"),
		changed: make(chan struct{}), stopping: make(chan struct{}), ended: make(chan struct{}),
	}, nil
}

// Start begins to connect in the background and returns at once; Wait tells when the connection is usable. The end of ctx
// does not stop the client: Stop does.
func (c *Client[K]) Start(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return fmt.Errorf("link client %s: %w", c.cfg.Name, ErrStopped)
	}
	if c.started {
		return fmt.Errorf("link client %s: started twice", c.cfg.Name)
	}
	c.started = true
	loop, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c.cancel = cancel
	go c.connect(loop)
	return nil
}

// Stop refuses new requests, waits until ctx ends for those in flight, and closes the connection; what is still in flight
// then ends as Unknown. It may be called before Start and more than once.
func (c *Client[K]) Stop(ctx context.Context) error {
	c.mu.Lock()
	first := !c.stopped
	if first {
		c.stopped = true
		close(c.stopping)
	}
	started := c.started
	c.mu.Unlock()
	defer c.metrics.unregister()
	if !first { // the first Stop is draining or has ended
		if started {
			select {
			case <-c.ended:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	}
	err := c.drain(ctx)
	if started {
		c.cancel()
		<-c.ended
	}
	return err
}

// drain takes every place: when all are taken, no request is in flight.
func (c *Client[K]) drain(ctx context.Context) error {
	for taken := range cap(c.places) {
		select {
		case c.places <- struct{}{}:
		case <-ctx.Done():
			return fmt.Errorf("link client %s: stopped with %d requests in flight: %w", c.cfg.Name, cap(c.places)-taken, context.Cause(ctx))
		}
	}
	return nil
}

// Connected tells whether there is a usable connection.
func (c *Client[K]) Connected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session != nil
}

// Wait returns nil as soon as there is a usable connection, else why there is none when ctx ends.
func (c *Client[K]) Wait(ctx context.Context) error {
	_, err := c.usable(ctx)
	return err
}

// usable returns the usable connection, waiting for one until ctx ends.
func (c *Client[K]) usable(ctx context.Context) (*Session[K], error) {
	for {
		c.mu.Lock()
		s, lastErr, changed := c.session, c.lastErr, c.changed
		c.mu.Unlock()
		if s != nil {
			return s, nil
		}
		select {
		case <-changed:
		case <-c.stopping:
			return nil, ErrStopped
		case <-ctx.Done():
			return nil, fmt.Errorf("%w to %s: %w", ErrNotConnected, c.cfg.Name, lastErr)
		}
	}
}

// Exchange sends one frame and waits for the answer whose key it is, until ctx ends. The frame is copied; the answer is
// the caller's. Every error is an *Error.
func (c *Client[K]) Exchange(ctx context.Context, key K, frame []byte) ([]byte, error) {
	s, err := c.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer c.leave()
	return s.Exchange(ctx, key, frame)
}

// Send hands one frame to the socket and waits for no answer, for example to answer a request of the peer. Every error is
// an *Error.
func (c *Client[K]) Send(ctx context.Context, frame []byte) error {
	s, err := c.enter(ctx)
	if err != nil {
		return err
	}
	defer c.leave()
	return s.Send(ctx, frame)
}

// enter takes a place and finds the connection; leave gives the place back.
func (c *Client[K]) enter(ctx context.Context) (*Session[K], error) {
	select {
	case c.places <- struct{}{}:
	default:
		select {
		case c.places <- struct{}{}:
		case <-c.stopping:
			return nil, c.refuse(ErrStopped)
		case <-ctx.Done():
			return nil, c.refuse(fmt.Errorf("%d requests in flight: %w", cap(c.places), ctx.Err()))
		}
	}
	s, err := c.current(ctx)
	if err != nil {
		c.leave()
		return nil, c.refuse(err)
	}
	return s, nil
}

func (c *Client[K]) leave() { <-c.places }

// refuse makes the error of a request that was not sent.
func (c *Client[K]) refuse(err error) error {
	c.metrics.failed[NotSent].Inc()
	return &Error{Outcome: NotSent, Link: c.cfg.Name, Err: err}
}

// current returns the connection, waiting for one for ConnectWait at most.
func (c *Client[K]) current(ctx context.Context) (*Session[K], error) {
	c.mu.Lock()
	s, stopped, lastErr := c.session, c.stopped, c.lastErr
	c.mu.Unlock()
	switch {
	case stopped:
		return nil, ErrStopped
	case s != nil:
		return s, nil
	case c.cfg.ConnectWait <= 0:
		return nil, fmt.Errorf("%w to %s: %w", ErrNotConnected, c.cfg.Name, lastErr)
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.ConnectWait)
	defer cancel()
	return c.usable(ctx)
}

// jittered shortens d by up to a half.
func jittered(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2+1)
}
