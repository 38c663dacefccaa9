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

// side says whose certificate made a TLS handshake fail. It is also the metric label.
type side string

// The sides of a failed handshake.
const (
	sidePeer  side = "peer"  // we refused the peer's certificate, or it had none
	sideOurs  side = "ours"  // the peer refused our certificate
	sideOther side = "other" // no certificate: another protocol, a time-out, a lost connection
)

// sides lists all of them, so that every counter starts at zero.
var sides = []side{sidePeer, sideOurs, sideOther}

// handshakeError is a failed TLS handshake as both ends should tell it: which side failed, and why.
type handshakeError struct {
	side side
	err  error // as crypto/tls gave it
}

// Error is one sentence that names the side and the cause.
func (e *handshakeError) Error() string {
	switch e.side {
	case sidePeer:
		return "the peer's certificate is refused: " + peerFault(e.err)
	case sideOurs:
		return "the peer refuses our certificate: " + strings.TrimPrefix(e.err.Error(), "remote error: tls: ")
	default:
		return "no TLS connection: " + e.err.Error()
	}
}

// Unwrap returns the cause.
func (e *handshakeError) Unwrap() error { return e.err }

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

// classifyHandshake says which side of a handshake failed.
func classifyHandshake(err error) *handshakeError {
	e := &handshakeError{side: sideOther, err: err}
	var refused *tls.CertificateVerificationError
	var remote *net.OpError
	switch {
	case errors.As(err, &refused), strings.Contains(err.Error(), "didn't provide a certificate"):
		e.side = sidePeer
	// Every alert that refuses a certificate has that word in its name (RFC 8446 §6.2), and no other has.
	case errors.As(err, &remote) && remote.Op == "remote error" && strings.Contains(remote.Err.Error(), "certificate"):
		e.side = sideOurs
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
