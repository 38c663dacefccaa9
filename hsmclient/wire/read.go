package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/keyward/keyward/hsmclient/driver"
)

// readBuffer saves system calls when many short answers come together.
const readBuffer = 16 << 10

// read takes answers until the connection ends.
func (c *Channel) read() {
	err := c.readAll()
	c.mu.Lock()
	c.end(err, errors.Is(err, driver.ErrMalformed), c.taken)
	c.mu.Unlock()
}

func (c *Channel) readAll() error {
	r := bufio.NewReaderSize(c.nc, readBuffer)
	for {
		frame, err := c.readFrame(r)
		if err != nil {
			return err
		}
		if err := c.deliver(frame); err != nil {
			return fmt.Errorf("%w: %w", driver.ErrMalformed, err)
		}
	}
}

// readFrame waits for a frame for as long as the device is silent, but for the rest of one that has begun not longer than the frame
// time-out. The frame is a slice of its own.
func (c *Channel) readFrame(r *bufio.Reader) ([]byte, error) {
	if _, err := r.Peek(1); err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	bounded := false
	need := func(n int) {
		if !bounded && r.Buffered() < n {
			_ = c.nc.SetReadDeadline(time.Now().Add(c.frameTimeout)) // fails only on a closed socket: the read tells
			bounded = true
		}
	}
	need(lengthSize)
	var length [lengthSize]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, fmt.Errorf("a frame is cut: %w", err)
	}
	n := int(binary.BigEndian.Uint16(length[:]))
	if c.cfg.BareLength {
		n += c.cfg.HeaderLength
	}
	if n == 0 || n > maxFrame {
		return nil, fmt.Errorf("%w: frame length %d is not 1 to %d", driver.ErrMalformed, n, maxFrame)
	}
	need(n)
	frame := make([]byte, n)
	if _, err := io.ReadFull(r, frame); err != nil {
		return nil, fmt.Errorf("a frame is cut: %w", err)
	}
	if bounded {
		_ = c.nc.SetReadDeadline(time.Time{}) // silence is the heartbeat's business
	}
	return frame, nil
}

// deliver gives an answer to the one request that it belongs to. Its error poisons the channel.
func (c *Channel) deliver(frame []byte) error {
	answer, label, serial, err := c.open(frame)
	second := c.labelled && c.cfg.Trailer
	c.mu.Lock()
	c.answered = true
	if err != nil {
		c.mu.Unlock()
		return err
	}
	if own, ok := c.pending[label]; ok && own.start < c.taken {
		if second && own.serial != serial {
			c.mu.Unlock()
			return errOtherPart
		}
		if !c.labelled && c.cfg.Echo && c.echoed(frame, own.serial) {
			c.mu.Unlock()
			return errEchoes
		}
		delete(c.pending, label)
		c.unanswered -= own.size
		own.put(answer, nil)
		c.mu.Unlock()
		return nil
	}
	l, ok := c.lates[label]
	if !ok || second && l.serial != serial {
		c.mu.Unlock()
		return errStray
	}
	delete(c.lates, label)
	c.unanswered -= l.size
	c.mu.Unlock()
	if c.onLate != nil {
		c.onLate(driver.Late{Command: string(l.code[:]), Sent: l.sent, Received: len(answer), At: l.at, Took: time.Since(l.at)})
	}
	clear(answer) // nobody wants it, and it may hold a PIN block
	return nil
}

// echoed says that a frame has the header of a request.
func (c *Channel) echoed(frame []byte, serial uint64) bool {
	label, err := c.header.read(frame)
	return err == nil && label == c.header.of(serial)
}

// open takes the labels off a frame.
func (c *Channel) open(frame []byte) (answer []byte, label uint32, serial uint64, err error) {
	if len(frame) < c.header.length {
		return nil, 0, 0, errShort
	}
	if !c.labelled {
		return frame[c.header.length:], 0, 0, nil
	}
	if label, err = c.header.read(frame); err != nil {
		return nil, 0, 0, err
	}
	answer = frame[c.header.length:]
	if c.cfg.Trailer {
		answer, serial, err = cutTrailer(answer)
	}
	return answer, label, serial, err
}
