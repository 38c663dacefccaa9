package hsm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// acceptPause is the wait after a failed accept, for example when the process has no file descriptors left.
const acceptPause = 20 * time.Millisecond

// port is one listener.
type port struct {
	name     string
	addr     string
	allow    allowList
	listener net.Listener // nil while closed.
	bound    net.Addr     // Where it was first opened; it reopens there.
}

// openPorts opens all listeners and starts their accept loops. The caller holds d.mu.
func (d *Device) openPorts(ctx context.Context) error {
	for _, p := range d.ports {
		addr := p.addr
		if p.bound != nil {
			addr = p.bound.String()
		}
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", addr)
		if err != nil {
			d.closePorts()
			return fmt.Errorf("hsm simulator: open port %q: %w: stop what uses the address, or configure another", p.name, err)
		}
		p.listener, p.bound = l, l.Addr()
	}
	for _, p := range d.ports {
		l := p.listener
		d.running.Go(func() { d.accept(p, l) })
	}
	return nil
}

// closePorts closes all listeners. The caller holds d.mu.
func (d *Device) closePorts() {
	for _, p := range d.ports {
		if p.listener != nil {
			_ = p.listener.Close() // The error says only that it was closed already.
			p.listener = nil
		}
	}
}

// closeConns ends all connections; their goroutines notice by themselves. The caller holds d.mu.
func (d *Device) closeConns(reset bool) {
	for c := range d.conns {
		c.close(reset)
	}
}

// accept serves one listener until it is closed.
func (d *Device) accept(p *port, l net.Listener) {
	for {
		nc, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			d.log.Warn("hsm simulator accept failed", "port", p.name, "error", err)
			time.Sleep(acceptPause) // Short and bounded: the listener may be closed meanwhile, which the next Accept sees.
			continue
		}
		if c := d.admit(p, nc); c != nil {
			d.running.Go(c.serve)
		}
	}
}

// admit registers a new connection, or closes it when faults or limits say so.
func (d *Device) admit(p *port, nc net.Conn) *conn {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now.Load()
	limit := d.cfg.MaxConnections
	if now.MaxConnections > 0 {
		limit = now.MaxConnections
	}
	if d.state == stateStopped || now.Refuse || now.AcceptThenClose || len(d.conns) >= limit {
		d.count.refused.Add(1)
		if now.Reset {
			abortive(nc)
		}
		_ = nc.Close() // Nothing was said on it, so there is nothing to lose.
		return nil
	}
	d.nextID++
	c := newConn(d, p, nc, d.nextID)
	d.conns[c] = struct{}{}
	d.count.accepted.Add(1)
	d.count.open.Add(1)
	return c
}

// forget takes an ended connection out of the books.
func (d *Device) forget(c *conn) {
	d.mu.Lock()
	delete(d.conns, c)
	d.mu.Unlock()
	d.count.open.Add(-1)
}
