package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Limits of a server where the configuration leaves them zero.
const (
	// defaultMaxConnections bounds memory: 20,000 terminals at about 10 KiB each are 200 MiB.
	defaultMaxConnections = 20000
	// defaultMaxInFlight bounds the handlers of one connection: a terminal has one request under way, a concentrator a few dozen.
	defaultMaxInFlight = 64
	// defaultIdleTimeout closes a connection that carries nothing: terminals send an echo every few minutes.
	defaultIdleTimeout = 10 * time.Minute
	// defaultKeepAlive is the silence after which the kernel asks whether the peer's machine is still there.
	defaultKeepAlive = time.Minute
	// hardStopGrace is how long Stop still waits for handlers after it has cancelled their context.
	hardStopGrace = time.Second
	// maxAcceptPause is the longest pause after a failed accept (no more file descriptors): it doubles from 5 ms.
	maxAcceptPause = time.Second
)

// Handler answers one frame. Handlers of one connection run concurrently; each may call Conn.Write any number of times. The
// frame is valid until the handler returns. ctx is not cancelled when the peer hangs up, only when a stop has run out of
// time: a payment that is under way goes on.
type Handler func(ctx context.Context, conn *Conn, frame []byte)

// ServerConfig describes a server. Name, Handler and one of Listener and Addr are required.
type ServerConfig struct {
	// Name appears in logs, metrics and errors, for example "terminals".
	Name string
	// Listener is used as it is when given; Stop closes it. Otherwise Start listens on Addr.
	Listener net.Listener
	// Addr is host:port, for example "127.0.0.1:7001".
	Addr string
	// TLS, when not nil, wraps every connection; the handshake must end within FrameTimeout.
	TLS *tls.Config
	// MaxFrame is the longest frame in bytes, both ways (default DefaultMaxFrame, at most 65535).
	MaxFrame int
	// MaxConnections is the number of connections served at once; further ones are closed at once (default 20,000).
	MaxConnections int
	// MaxConnectionsPerAddr is the same for one address, which is one /64 network where it is IPv6; 0: no bound of its own.
	MaxConnectionsPerAddr int
	// MaxInFlightPerConn is the number of handlers that one connection can have running; then it is not read (default 64).
	MaxInFlightPerConn int
	// IdleTimeout closes a connection without a frame for this long (default 10 minutes).
	IdleTimeout time.Duration
	// FrameTimeout bounds the rest of a frame whose first byte has come (default 10 s).
	FrameTimeout time.Duration
	// WriteTimeout bounds one write (default 10 s).
	WriteTimeout time.Duration
	// KeepAlive is the silence after which TCP keep-alive probes begin (default 1 minute); a peer that answers none of
	// keepAliveProbes, a quarter of that time apart, is gone.
	KeepAlive time.Duration
	// Handler answers frames.
	Handler Handler
	// OnBadFrame, when not nil, hears of each connection that is closed for what it carried. It must return quickly.
	OnBadFrame func(Reason)
	// Log receives refused frames, failed handshakes and panics, with the address and never with content (default: nowhere).
	Log *slog.Logger
	// Registerer receives the metrics keyward_link_server_* with the label link=Name (default: none).
	Registerer prometheus.Registerer
}

// Server accepts connections and hands their frames to the handler. Use it once: New, Start, Stop.
type Server struct {
	cfg     ServerConfig
	metrics *serverMetrics
	frames  buffers

	hard     context.Context //nolint:containedctx // It is the life of the server, which ends when a stop has run out of time; handlers work under it.
	hardStop context.CancelFunc
	draining atomic.Bool
	drain    chan struct{} // closed together with draining

	mu       sync.Mutex
	listener net.Listener
	started  bool
	conns    map[*Conn]struct{}
	perAddr  map[netip.Addr]int // open connections; only where they are bounded

	accepting sync.WaitGroup // the accept loop
	serving   sync.WaitGroup // one per connection; a connection ends after its handlers
}

// NewServer checks the configuration and fills in defaults.
func NewServer(cfg ServerConfig) (*Server, error) {
	if cfg.Name == "" || cfg.Handler == nil {
		return nil, errors.New("link server: name and handler are required")
	}
	if cfg.Listener == nil && cfg.Addr == "" {
		return nil, fmt.Errorf("link server %s: neither listener nor address given", cfg.Name)
	}
	cfg.MaxFrame = orDefault(cfg.MaxFrame, DefaultMaxFrame)
	if cfg.MaxFrame > maxFrameLimit {
		return nil, fmt.Errorf("link server %s: longest frame %d is above %d", cfg.Name, cfg.MaxFrame, maxFrameLimit)
	}
	cfg.MaxConnections = orDefault(cfg.MaxConnections, defaultMaxConnections)
	cfg.MaxInFlightPerConn = orDefault(cfg.MaxInFlightPerConn, defaultMaxInFlight)
	cfg.IdleTimeout = orDefault(cfg.IdleTimeout, defaultIdleTimeout)
	cfg.FrameTimeout = orDefault(cfg.FrameTimeout, defaultFrameTimeout)
	cfg.WriteTimeout = orDefault(cfg.WriteTimeout, defaultWriteTimeout)
	cfg.KeepAlive = orDefault(cfg.KeepAlive, defaultKeepAlive)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Log = cfg.Log.With("component", "link", "link", cfg.Name)
	m, err := newServerMetrics(cfg.Registerer, cfg.Name)
	if err != nil {
		return nil, fmt.Errorf("link server %s: %w", cfg.Name, err)
	}
	s := &Server{cfg: cfg, metrics: m, listener: cfg.Listener, conns: map[*Conn]struct{}{}, perAddr: map[netip.Addr]int{}, drain: make(chan struct{})}
	s.hard, s.hardStop = context.WithCancel(context.Background())
	return s, nil
}

// Start listens where no listener was given, and accepts in the background. ctx bounds only the start.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining.Load() {
		return fmt.Errorf("link server %s: %w", s.cfg.Name, ErrStopped)
	}
	if s.started {
		return fmt.Errorf("link server %s: started twice", s.cfg.Name)
	}
	if s.listener == nil {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", s.cfg.Addr)
		if err != nil {
			return listenError(s.cfg.Addr, err)
		}
		s.listener = l
	}
	s.started = true
	s.accepting.Add(1)
	go s.accept(s.listener)
	return nil
}

// Addr is the address listened on, nil before Start where only an address was configured.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return nil
	}
	return s.listener.Addr()
}

// Stop stops accepting and reading, waits for the running handlers until ctx ends, then cancels their context and closes
// what is left. The error names what did not end. Stop may be called before Start and more than once.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	if !s.draining.Swap(true) {
		close(s.drain)
	}
	if s.listener != nil {
		_ = s.listener.Close() // an error here means that it is closed already
	}
	for c := range s.conns {
		// A past deadline ends the read in which the connection waits; its handlers go on and can write.
		_ = c.nc.SetReadDeadline(time.Unix(1, 0))
	}
	s.mu.Unlock()

	ended := make(chan struct{})
	go func() {
		s.accepting.Wait()
		s.serving.Wait()
		close(ended)
	}()
	defer s.metrics.unregister()
	defer s.hardStop()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
	}
	s.hardStop()
	open := s.closeAll()
	err := fmt.Errorf("link server %s: %d connections closed before their handlers ended: %w", s.cfg.Name, open, context.Cause(ctx))
	select {
	case <-ended:
		return err
	case <-time.After(hardStopGrace):
		return fmt.Errorf("%w; some handlers ignore the end of their context", err)
	}
}

// closeAll closes every open connection and returns their number.
func (s *Server) closeAll() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
	}
	return len(s.conns)
}

// accept takes connections until the listener is closed.
func (s *Server) accept(l net.Listener) {
	defer s.accepting.Done()
	pause := time.Duration(0)
	for {
		nc, err := l.Accept()
		if err != nil {
			if s.draining.Load() || errors.Is(err, net.ErrClosed) {
				return
			}
			pause = min(max(5*time.Millisecond, 2*pause), maxAcceptPause)
			s.cfg.Log.Error("cannot accept connections, trying again", "error", err, "pause", pause)
			select {
			case <-time.After(pause):
			case <-s.drain:
				return
			}
			continue
		}
		pause = 0
		if c := s.admit(nc); c != nil {
			go c.serve()
		}
	}
}

// listenError turns a failure to listen into a sentence with the next step.
func listenError(addr string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("cannot listen on %s: %w; stop the other program or choose another port with --port-offset", addr, syscall.EADDRINUSE)
	}
	return fmt.Errorf("cannot listen on %s: %w", addr, err)
}
