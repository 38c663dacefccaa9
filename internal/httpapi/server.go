package httpapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

// Limits of every server. None is zero: without them one slow client holds a connection for ever.
const (
	readHeaderTimeout = 5 * time.Second  // a header is one packet or two
	readTimeout       = 30 * time.Second // header and a body of MaxBody on a slow line
	writeTimeout      = 90 * time.Second // longer than the slowest call (a card script: HSM and database) and a 30 s CPU profile
	idleTimeout       = 2 * time.Minute  // longer than a client's pause between two calls
	maxHeaderBytes    = 16 << 10         // tokens and tracing headers fit; net/http adds 4 KiB of its own
)

// ServerConfig describes a server. Name and Handler are required, and one of Listener and Addr.
type ServerConfig struct {
	// Name appears in logs and errors, for example "registry API".
	Name string
	// Listener is used when given; otherwise Start listens on Addr.
	Listener net.Listener
	// Addr is host:port.
	Addr string
	// TLS, when not nil, makes it HTTPS (see ServerTLS).
	TLS *tls.Config
	// Handler answers.
	Handler http.Handler
	// Log receives what net/http complains of (default: nowhere).
	Log *slog.Logger
}

// Server is an http.Server with all time-outs and limits set. Use it once: New, Start, Stop.
type Server struct {
	cfg    ServerConfig
	http   *http.Server
	failed chan error // receives the error when serving ends by itself
	ended  chan struct{}

	mu      sync.Mutex
	addr    net.Addr
	started bool
	stopped bool
}

// NewServer checks the configuration and sets the limits.
func NewServer(cfg ServerConfig) (*Server, error) {
	if cfg.Name == "" || cfg.Handler == nil || (cfg.Listener == nil && cfg.Addr == "") {
		return nil, errors.New("http server: name, handler and an address are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{
		cfg: cfg, failed: make(chan error, 1), ended: make(chan struct{}),
		http: &http.Server{
			Handler: cfg.Handler, TLSConfig: cfg.TLS,
			ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
			MaxHeaderBytes: maxHeaderBytes,
			ErrorLog:       slog.NewLogLogger(cfg.Log.With("component", "http", "server", cfg.Name).Handler(), slog.LevelWarn),
		},
	}, nil
}

// Start listens and serves in the background.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started || s.stopped {
		return fmt.Errorf("%s: started twice or after its stop", s.cfg.Name)
	}
	l := s.cfg.Listener
	if l == nil {
		var err error
		if l, err = Listen(ctx, s.cfg.Addr); err != nil {
			return fmt.Errorf("%s: %w", s.cfg.Name, err)
		}
	}
	s.started, s.addr = true, l.Addr()
	if s.cfg.TLS == nil && onLoopback(s.addr) {
		s.http.Handler = ownHost(s.cfg.Handler)
	}
	go func() {
		defer close(s.ended)
		var err error
		if s.cfg.TLS != nil {
			err = s.http.ServeTLS(l, "", "")
		} else {
			err = s.http.Serve(l)
		}
		if !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("%s: %w", s.cfg.Name, err)
		}
	}()
	return nil
}

// Addr is the address listened on, nil before Start.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// Wait returns nil when ctx ends, or the error if serving ends by itself.
func (s *Server) Wait(ctx context.Context) error {
	select {
	case err := <-s.failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// Stop stops accepting, waits until ctx ends for the requests under way, then closes what is left. It may be called before
// Start and more than once.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	started, first := s.started, !s.stopped
	s.stopped = true
	s.mu.Unlock()
	if !started {
		if first && s.cfg.Listener != nil {
			return s.cfg.Listener.Close()
		}
		return nil
	}
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = fmt.Errorf("%s: requests cut off: %w", s.cfg.Name, errors.Join(err, s.http.Close()))
	}
	<-s.ended
	return err
}

// Listen listens on a TCP address. Its errors are sentences with the next step.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("cannot listen on %s: %w; stop the other program or choose another port with --port-offset", addr, syscall.EADDRINUSE)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("cannot listen on %s: %w; choose a port above 1023", addr, syscall.EACCES)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("cannot listen on %s: %w; this machine does not have that address", addr, syscall.EADDRNOTAVAIL)
	default:
		return nil, fmt.Errorf("cannot listen on %s: %w; the form is host:port, for example 127.0.0.1:8080", addr, err)
	}
}
