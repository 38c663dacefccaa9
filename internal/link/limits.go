package link

import (
	"net"
	"net/netip"
	"time"
)

const (
	// keepAliveProbes is how many unanswered probes in a row end a connection.
	keepAliveProbes = 4
	// v6Network is the part of an IPv6 address that one site has: it can have any number of addresses below it.
	v6Network = 64
)

// Why a connection was refused; metric labels.
const (
	refusedTotal   = "total"   // MaxConnections are open
	refusedAddress = "address" // MaxConnectionsPerAddr are open from there
)

// Why a connection ended other than by what it carried; metric labels.
const (
	endedIdle       = "idle"        // no frame for IdleTimeout
	endedLost       = "lost"        // the peer's machine answers no keep-alive probe
	endedSlowReader = "slow_reader" // the peer did not take an answer within WriteTimeout
)

// admit makes a connection part of the server, or closes it and returns nil when there are too many.
func (s *Server) admit(nc net.Conn) *Conn {
	from := s.source(nc)
	s.mu.Lock()
	defer s.mu.Unlock()
	refused := ""
	switch {
	case s.draining.Load() || len(s.conns) >= s.cfg.MaxConnections:
		refused = refusedTotal
	case from.IsValid() && s.perAddr[from] >= s.cfg.MaxConnectionsPerAddr:
		refused = refusedAddress
	}
	if refused != "" {
		s.metrics.refused[refused].Inc()
		_ = nc.Close() // nothing was exchanged, so nothing can be lost
		return nil
	}
	if from.IsValid() {
		s.perAddr[from]++
	}
	keepAlive(nc, s.cfg.KeepAlive)
	c := newConn(s, nc, from)
	s.conns[c] = struct{}{}
	s.serving.Add(1)
	s.metrics.open.Inc()
	return c
}

// forget takes an ended connection out of the server.
func (s *Server) forget(c *Conn) {
	s.mu.Lock()
	delete(s.conns, c)
	if c.from.IsValid() {
		if s.perAddr[c.from]--; s.perAddr[c.from] == 0 {
			delete(s.perAddr, c.from)
		}
	}
	s.mu.Unlock()
	s.metrics.open.Dec()
	s.serving.Done()
}

// source is the address that a connection counts for, the zero address where connections are not counted by address.
func (s *Server) source(nc net.Conn) netip.Addr {
	tcp, ok := nc.RemoteAddr().(*net.TCPAddr)
	if s.cfg.MaxConnectionsPerAddr <= 0 || !ok {
		return netip.Addr{}
	}
	a := tcp.AddrPort().Addr().Unmap().WithZone("")
	if a.Is6() {
		if network, err := a.Prefix(v6Network); err == nil {
			return network.Addr()
		}
	}
	return a
}

// keepAlive has the kernel ask a silent peer, so that one whose machine or line is gone does not hold its place until IdleTimeout.
func keepAlive(nc net.Conn, idle time.Duration) {
	tcp, ok := nc.(interface {
		SetKeepAliveConfig(net.KeepAliveConfig) error
	})
	if !ok {
		return
	}
	// It fails only on a closed socket, which the first read tells.
	_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: idle, Interval: max(idle/keepAliveProbes, time.Second), Count: keepAliveProbes})
}
