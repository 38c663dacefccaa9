package bare

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
)

// HSM is the simplest client of one device that pipelines: a counter as header, a map, one write for each request, one goroutine that
// reads on each connection. It looks after nothing: no heartbeat, no time-out, no second try, no second device. The cluster client is
// measured against it.
type HSM struct {
	lines []*hsmLine
	turn  atomic.Uint32
}

var (
	errStray = errors.New("an answer that nobody asked for")
	errEnded = errors.New("the connection ended")
)

// DialHSM makes as many connections to a device, whose header has 4 characters.
func DialHSM(ctx context.Context, addr string, connections int) (*HSM, error) {
	h := &HSM{}
	for range connections {
		conn, err := (&net.Dialer{Timeout: dialTime}).DialContext(ctx, "tcp", addr)
		if err != nil {
			h.Close()
			return nil, fmt.Errorf("connect to the HSM: %w", err)
		}
		l := &hsmLine{conn: conn, ended: make(chan struct{}), pending: map[uint32]chan []byte{}}
		h.lines = append(h.lines, l)
		go l.read()
	}
	return h, nil
}

// Close ends the connections; requests under way fail.
func (h *HSM) Close() {
	for _, l := range h.lines {
		_ = l.conn.Close() // only ever "already closed"
		<-l.ended
	}
}

// Exchange sends a host command on the next connection and gives the answer, both without frame and header.
func (h *HSM) Exchange(command string) ([]byte, error) {
	return h.lines[h.turn.Add(1)%uint32(len(h.lines))].exchange(command)
}

// hsmLine is one connection.
type hsmLine struct {
	conn  net.Conn
	ended chan struct{}

	mu      sync.Mutex // also keeps the frames of two writers apart
	next    uint32
	pending map[uint32]chan []byte
}

func (l *hsmLine) read() {
	defer close(l.ended)
	_ = readFrames(l.conn, func(frame []byte) error { // its end is told to all who wait
		if len(frame) < headerSize {
			return errStray
		}
		label := binary.BigEndian.Uint32(frame)
		l.mu.Lock()
		answer := l.pending[label]
		delete(l.pending, label)
		l.mu.Unlock()
		if answer == nil {
			return errStray
		}
		answer <- frame[headerSize:]
		return nil
	})
	_ = l.conn.Close() // after an error of the protocol; else closed already
}

func (l *hsmLine) exchange(command string) ([]byte, error) {
	answer := make(chan []byte, 1)
	frame := make([]byte, 0, 2+headerSize+len(command))
	frame = binary.BigEndian.AppendUint16(frame, uint16(headerSize+len(command)))
	l.mu.Lock()
	l.next++
	l.pending[l.next] = answer
	frame = append(binary.BigEndian.AppendUint32(frame, l.next), command...)
	_, err := l.conn.Write(frame)
	l.mu.Unlock()
	if err != nil {
		return nil, err
	}
	select {
	case a := <-answer:
		return a, nil
	case <-l.ended:
		return nil, errEnded
	}
}
