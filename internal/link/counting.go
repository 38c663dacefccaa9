package link

import (
	"crypto/tls"
	"net"
	"sync/atomic"
)

// countingConn counts the bytes that the socket under a TLS connection took: crypto/tls itself reports 0 for a record that went
// out in part.
type countingConn struct {
	net.Conn
	written atomic.Int64
}

// Write implements net.Conn.
func (c *countingConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.written.Add(int64(n))
	return n, err
}

// writeCounted writes b and tells how many of its bytes went out at most: 0 means that the socket took nothing. When a TLS
// write fails after record bytes have gone out, that is all of b, because a record may hold any part of it. Where TLS is not
// counted (the caller's own Dial), every failed write counts as begun.
func writeCounted(nc net.Conn, under *countingConn, b []byte) (int, error) {
	var before int64
	if under != nil {
		before = under.written.Load()
	}
	n, err := nc.Write(b)
	if err == nil {
		return n, nil
	}
	if under != nil {
		if under.written.Load() == before {
			return 0, err
		}
		return len(b), err
	}
	if _, ok := nc.(*tls.Conn); ok {
		return len(b), err
	}
	return n, err
}
