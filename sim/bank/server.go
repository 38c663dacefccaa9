package bank

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"
)

const (
	// maxSessions bounds the connections; several posp with several connections each stay far below.
	maxSessions = 256
	// acceptPause keeps a failing accept (no file handles left) from spinning.
	acceptPause = 50 * time.Millisecond
	// relistenWait bounds the attempts to get the port again: a connection of somebody else may hold it for a moment.
	relistenWait = 2 * time.Second
	// relistenPause lies between these attempts.
	relistenPause = 20 * time.Millisecond
)

// serve takes a listener into work. The caller holds life and has checked that the bank runs.
func (b *Bank) serve(l net.Listener) {
	b.life.listener = l
	b.work.Go(func() { b.acceptLoop(l) })
	if refuse, _ := b.faults.refusing(); refuse {
		b.stopListening()
	}
}

// stopListening closes the listener, if any. The caller holds life.
func (b *Bank) stopListening() {
	if b.life.listener != nil {
		_ = b.life.listener.Close() // Only ever "already closed".
		b.life.listener = nil
	}
}

// closeSessions closes all connections. The caller holds life.
func (b *Bank) closeSessions() {
	for s := range b.life.sessions {
		s.close()
	}
}

// applyListener makes the listener what the faults say. The caller holds control.
func (b *Bank) applyListener() error {
	refuse, down := b.faults.refusing()
	b.life.Lock()
	running := b.life.started && !b.life.stopped
	missing := running && b.life.listener == nil && !refuse
	if refuse {
		b.stopListening()
	}
	if down {
		b.closeSessions()
	}
	addr := b.life.bound
	b.life.Unlock()
	if !missing {
		return nil
	}
	l, err := b.relisten(addr)
	if err != nil {
		return fmt.Errorf("bank: listen again on %s: %w", addr, err)
	}
	b.life.Lock()
	defer b.life.Unlock()
	b.serve(l)
	return nil
}

func (b *Bank) relisten(addr string) (net.Listener, error) {
	ctx, cancel := context.WithTimeout(context.Background(), relistenWait)
	defer cancel()
	var lc net.ListenConfig
	for {
		l, err := lc.Listen(ctx, "tcp", addr)
		if err == nil {
			return l, nil
		}
		select {
		case <-time.After(relistenPause):
		case <-ctx.Done():
			return nil, err
		}
	}
}

func (b *Bank) acceptLoop(l net.Listener) {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			b.log.Error("bank simulator cannot accept a connection", slog.Any("error", err))
			select {
			case <-time.After(acceptPause):
			case <-b.life.stop:
				return
			}
			continue
		}
		b.open(conn, l)
	}
}

// open starts a session unless the bank is stopping, refusing or full.
func (b *Bank) open(conn net.Conn, l net.Listener) {
	b.life.Lock()
	defer b.life.Unlock()
	full := len(b.life.sessions) >= maxSessions
	if full || b.life.stopped || b.life.listener != l {
		_ = conn.Close() // Nothing was promised to this peer yet.
		if full {
			b.log.Warn("bank simulator refuses a connection", slog.Int("connections", maxSessions))
		}
		return
	}
	b.life.nextID++
	s := newSession(b, conn, b.life.nextID)
	b.life.sessions[s] = struct{}{}
	b.work.Go(s.writeLoop)
	b.work.Go(func() {
		s.readLoop()
		b.life.Lock()
		defer b.life.Unlock()
		delete(b.life.sessions, s)
	})
}
