// Package access decides who may speak on a TLS listener for terminals: TLS 1.3, which certificates are accepted, which of them are
// revoked, and for which terminal numbers a connection may speak (P12, G2, G3).
//
// A certificate is bound to a terminal by its common name, which is the terminal number of field 41. Certificates of concentrators, named in
// the configuration, speak for any terminal. What was checked in the handshake is checked again with every message, so that a
// certificate that is revoked or ends while its connection stands is of no use any more.
package access

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"
)

// Clients says whether the other side must have a certificate.
type Clients string

// The values of Clients.
const (
	Required Clients = "required" // the default
	Optional Clients = "optional" // one that is shown must be good
	None     Clients = "none"     // none is asked for
)

// UnmarshalText accepts the three values.
func (c *Clients) UnmarshalText(b []byte) error {
	switch v := Clients(b); v {
	case Required, Optional, None:
		*c = v
		return nil
	default:
		return errors.New("not a known value")
	}
}

// ConfigHint says what is allowed.
func (Clients) ConfigHint() string { return "required, optional or none" }

// Config of one TLS listener for terminals.
type Config struct {
	Cert string  // file with the listener's certificate chain, PEM
	Key  string  // file with its private key, PEM
	CA   string  // file with the authorities of the terminals' certificates, PEM; not needed for None
	Ask  Clients // empty: Required
	// Bind holds each message against the certificate of its connection: the common name must be the terminal number.
	Bind bool
	// Concentrators are the common names that speak for any terminal.
	Concentrators []string
	// Revoked are files with revocation lists of the authorities, PEM or DER.
	Revoked []string
	Log     *slog.Logger     // hears of a revocation list that cannot be renewed; nil: nowhere
	Now     func() time.Time // nil: time.Now
}

// Gate is the rule of one listener. It is safe for concurrent use.
type Gate struct {
	cfg     Config
	tls     *tls.Config
	revoked *revoked
}

// New reads certificates and revocation lists. Errors name the file at fault.
func New(cfg Config) (*Gate, error) {
	if cfg.Ask == "" {
		cfg.Ask = Required
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Ask == None && (cfg.Bind || len(cfg.Revoked) > 0 || len(cfg.Concentrators) > 0) {
		return nil, errors.New("bind_terminal, concentrators and revoked need client certificates: set client_certificate to required or optional")
	}
	cert, err := tls.LoadX509KeyPair(cfg.Cert, cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", cfg.Cert, cfg.Key, err)
	}
	if now := cfg.Now(); now.After(cert.Leaf.NotAfter) || now.Before(cert.Leaf.NotBefore) {
		return nil, fmt.Errorf("certificate %s is good from %s to %s only: terminals would refuse it; renew it, or set the clock right",
			cfg.Cert, cert.Leaf.NotBefore.UTC().Format(time.RFC3339), cert.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	g := &Gate{cfg: cfg, tls: &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, Time: cfg.Now}}
	if cfg.Ask == None {
		return g, nil
	}
	pem, err := os.ReadFile(cfg.CA)
	if err != nil {
		return nil, fmt.Errorf("authorities of the terminals: %w", err)
	}
	authorities, err := certificates(pem)
	if err != nil {
		return nil, fmt.Errorf("authorities of the terminals: %s: %w", cfg.CA, err)
	}
	g.tls.ClientCAs = x509.NewCertPool()
	for _, a := range authorities {
		g.tls.ClientCAs.AddCert(a)
	}
	g.tls.ClientAuth = tls.RequireAndVerifyClientCert
	if cfg.Ask == Optional {
		g.tls.ClientAuth = tls.VerifyClientCertIfGiven
	}
	if g.revoked, err = newRevoked(cfg.Revoked, authorities, cfg.Log, cfg.Now); err != nil {
		return nil, err
	}
	// Called for resumed sessions too, in which crypto/tls verifies no chain.
	g.tls.VerifyConnection = func(state tls.ConnectionState) error {
		if err := g.standing(state); err != nil {
			return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: err}
		}
		return nil
	}
	return g, nil
}

// TLS is the configuration for the listener.
func (g *Gate) TLS() *tls.Config { return g.tls }

var (
	// ErrNoStanding means that the certificate of the connection is of no use any more: nothing on the connection can be trusted.
	ErrNoStanding = errors.New("the terminal's certificate counts no more")
	// ErrOtherTerminal means that the connection may not speak for this terminal.
	ErrOtherTerminal = errors.New("the connection's certificate is not this terminal's")
)

// Check says whether a connection may carry a message of a terminal. bound tells that the certificate is the terminal's own, so that
// nobody else can have sent the message. The error is ErrNoStanding or ErrOtherTerminal with the cause.
func (g *Gate) Check(state tls.ConnectionState, terminal string) (bound bool, err error) {
	if len(state.PeerCertificates) == 0 {
		return false, nil
	}
	if err := g.standing(state); err != nil {
		return false, fmt.Errorf("%w: %w", ErrNoStanding, err)
	}
	name := state.PeerCertificates[0].Subject.CommonName
	switch {
	case name == terminal:
		return true, nil
	case !g.cfg.Bind || slices.Contains(g.cfg.Concentrators, name):
		return false, nil
	default:
		return false, fmt.Errorf("%w: it is that of %q", ErrOtherTerminal, name)
	}
}

// standing looks for what can change after a certificate was verified: its time ends, or it is revoked.
func (g *Gate) standing(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return nil
	}
	cert := state.PeerCertificates[0]
	if now := g.cfg.Now(); now.After(cert.NotAfter) {
		return x509.CertificateInvalidError{Cert: cert, Reason: x509.Expired}
	}
	return g.revoked.check(cert)
}
