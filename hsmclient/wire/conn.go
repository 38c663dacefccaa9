package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/keyward/keyward/hsmclient/driver"
)

// countingConn is the socket. It counts what it took, because crypto/tls reports 0 for a record that went out in part, and notes when
// anything came.
type countingConn struct {
	net.Conn
	heard   atomic.Int64 // UnixNano
	written atomic.Int64
}

// Read implements net.Conn.
func (c *countingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.heard.Store(time.Now().UnixNano())
	}
	return n, err
}

// Write implements net.Conn.
func (c *countingConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.written.Add(int64(n))
	return n, err
}

// send writes b through nc, which is c or TLS over it, and tells how many of its bytes went out at most. When a TLS write fails after
// a byte of a record has gone out, that is all of b, because a record may hold any part of it.
func (c *countingConn) send(nc net.Conn, b []byte, deadline time.Time) (int, error) {
	before := c.written.Load()
	_ = nc.SetWriteDeadline(deadline) // fails only on a closed socket: the write tells
	n, err := nc.Write(b)
	if err == nil || nc == net.Conn(c) {
		return n, err
	}
	if c.written.Load() == before {
		return 0, err
	}
	return len(b), err
}

// dial connects, with the handshake where TLS is spoken. A certificate must belong to the host that was meant to be reached.
func dial(ctx context.Context, to driver.Target) (net.Conn, *countingConn, error) {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", to.Addr)
	if err != nil {
		return nil, nil, fmt.Errorf("no connection: %w", withoutAddress(err))
	}
	socket := &countingConn{Conn: raw}
	if to.TLS == nil {
		return socket, socket, nil
	}
	cfg := to.TLS.Clone()
	if cfg.ServerName == "" {
		if host, _, err := net.SplitHostPort(to.Addr); err == nil {
			cfg.ServerName = host
		}
	}
	t := tls.Client(socket, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		_ = socket.Close() // the handshake's error is the one to tell
		return nil, nil, fmt.Errorf("connect: TLS handshake: %w", err)
	}
	return t, socket, nil
}

// withoutAddress takes the address out of an error of the network: who opens a channel says it already.
func withoutAddress(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		err = op.Err
	}
	var call *os.SyscallError
	if errors.As(err, &call) && call.Err != nil {
		err = call.Err
	}
	return err
}
