package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// Side says whose certificate made a TLS handshake fail. It is also the metric label.
type Side string

// The sides of a failed handshake.
const (
	SidePeer  Side = "peer"  // we refused the peer's certificate, or it had none
	SideOurs  Side = "ours"  // the peer refused our certificate
	SideOther Side = "other" // no certificate: another protocol, a time-out, a lost connection
)

// sides lists all of them, so that every counter starts at zero.
var sides = []Side{SidePeer, SideOurs, SideOther}

// HandshakeError is a failed TLS handshake as both ends should tell it: which side failed, and why.
type HandshakeError struct {
	// Side says whose certificate was refused.
	Side Side
	// Err is the cause, as crypto/tls gave it.
	Err error
}

// Error is one sentence that names the side and the cause.
func (e *HandshakeError) Error() string {
	switch e.Side {
	case SidePeer:
		return "the peer's certificate is refused: " + peerFault(e.Err)
	case SideOurs:
		return "the peer refuses our certificate: " + strings.TrimPrefix(e.Err.Error(), "remote error: tls: ")
	default:
		return "no TLS connection: " + e.Err.Error()
	}
}

// Unwrap returns the cause.
func (e *HandshakeError) Unwrap() error { return e.Err }

// peerFault describes why a certificate is refused, with the name and the time that tell which one it is.
func peerFault(err error) string {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		c := invalid.Cert
		return fmt.Sprintf("%q is valid from %s to %s only: renew it, or set the clock right", c.Subject.CommonName, c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339))
	case errors.As(err, &unknown):
		name := ""
		if unknown.Cert != nil {
			name = fmt.Sprintf("%q ", unknown.Cert.Subject.CommonName)
		}
		return name + "is signed by an authority that this listener does not accept"
	case strings.Contains(err.Error(), "didn't provide a certificate"): // crypto/tls has no type for it
		return "it has none"
	default:
		return strings.TrimPrefix(err.Error(), "tls: failed to verify certificate: ")
	}
}

// ClassifyHandshake says which side of a handshake failed. A connection that is refused by the server under TLS 1.3 hears of it with its
// first read, which is why a client gives read errors to it too.
func ClassifyHandshake(err error) *HandshakeError {
	e := &HandshakeError{Side: SideOther, Err: err}
	var refused *tls.CertificateVerificationError
	var remote *net.OpError
	switch {
	case errors.As(err, &refused), strings.Contains(err.Error(), "didn't provide a certificate"):
		e.Side = SidePeer
	// Every alert that refuses a certificate has that word in its name (RFC 8446 §6.2), and no other has.
	case errors.As(err, &remote) && remote.Op == "remote error" && strings.Contains(remote.Err.Error(), "certificate"):
		e.Side = SideOurs
	}
	return e
}

// handshake does the TLS handshake, if any, in bounded time.
func (c *Conn) handshake() error {
	t, ok := c.nc.(*tls.Conn)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(c.server.hard, c.server.cfg.FrameTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, c.Close)
	defer stop()
	return t.HandshakeContext(ctx)
}
