package pos

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// TLSLine is the way to posp over TLS 1.3. The zero value is none.
type TLSLine struct {
	Addr string // host:port of posp's listener for TLS
	CA   string // file with the authority of posp's certificate, PEM
	Dir  string // directory with NUMBER.crt and NUMBER.key of each terminal, PEM
}

// overTLS is the key of the choice of line in a context.
type overTLS struct{}

// OverTLS has the commands of a terminal that are done with the returned context go over its TLS line.
func OverTLS(ctx context.Context) context.Context { return context.WithValue(ctx, overTLS{}, true) }

// certificateError says that one side refused the other's certificate: no message was taken.
type certificateError struct {
	by    string // who refused what
	cause error
}

func (e *certificateError) Error() string { return e.by + ": " + e.cause.Error() }

func (e *certificateError) Unwrap() error { return e.cause }

// connect opens the line that the context asks for.
func (t *Terminal) connect(ctx context.Context) (net.Conn, error) {
	dialer := net.Dialer{Timeout: t.cfg.DialTimeout}
	if ctx.Value(overTLS{}) == nil {
		return dialer.DialContext(ctx, "tcp", t.cfg.POSP)
	}
	cfg, err := t.cfg.TLS.config(t.cfg.TerminalID)
	if err != nil {
		return nil, err
	}
	raw, err := dialer.DialContext(ctx, "tcp", t.cfg.TLS.Addr)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, cfg)
	_ = conn.SetDeadline(time.Now().Add(t.cfg.DialTimeout)) // fails only on a closed socket: the handshake tells
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, refusedBy(err)
	}
	return conn, nil
}

// config reads the terminal's certificate and the authority of posp's.
func (l TLSLine) config(terminal string) (*tls.Config, error) {
	if l.Addr == "" {
		return nil, errors.New("this terminal has no TLS line: give terminals.tls in the simulators' configuration")
	}
	cert, err := tls.LoadX509KeyPair(filepath.Join(l.Dir, terminal+".crt"), filepath.Join(l.Dir, terminal+".key"))
	if err != nil {
		return nil, fmt.Errorf("terminal %s has no certificate that can be used: %w", terminal, err)
	}
	pem, err := os.ReadFile(l.CA)
	if err != nil {
		return nil, fmt.Errorf("authority of posp's certificate: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate in PEM form", l.CA)
	}
	host, _, err := net.SplitHostPort(l.Addr)
	if err != nil {
		return nil, fmt.Errorf("TLS address of posp: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool, ServerName: host, Certificates: []tls.Certificate{cert}}, nil
}

// refusedBy turns an error of a handshake, or of the first read after one, into a certificateError where a certificate was refused.
// Under TLS 1.3 a client hears only then that the server refuses its certificate; nothing it has written by then was taken.
func refusedBy(err error) error {
	var ours *tls.CertificateVerificationError
	var remote *net.OpError
	switch {
	case errors.As(err, &ours):
		return &certificateError{"the terminal refuses posp's certificate", ours.Err}
	case errors.As(err, &remote) && remote.Op == "remote error" && strings.Contains(remote.Err.Error(), "certificate"):
		return &certificateError{"posp refuses the terminal's certificate", remote.Err}
	}
	return err
}

// sameLine says that the kept connection is of the kind that the context asks for.
func (t *Terminal) sameLine(ctx context.Context) bool {
	_, isTLS := t.conn.(*tls.Conn)
	return isTLS == (ctx.Value(overTLS{}) != nil)
}
