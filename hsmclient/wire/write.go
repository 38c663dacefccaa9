package wire

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"time"
)

// appendFrame writes a whole frame.
func (c *Channel) appendFrame(dst []byte, serial uint64, request []byte) []byte {
	begin := len(dst)
	dst = append(dst, 0, 0)
	dst = c.header.append(dst, serial)
	dst = append(dst, request...)
	dst = append(dst, c.cfg.Suffix...)
	if c.labelled && c.cfg.Trailer {
		dst = appendTrailer(dst, serial)
	}
	n := len(dst) - begin - lengthSize
	if c.cfg.BareLength {
		n -= c.cfg.HeaderLength
	}
	binary.BigEndian.PutUint16(dst[begin:], uint16(n))
	return dst
}

// takeBatch gives what is queued to the one who has the right to write: all of it, or as many frames as one write may join. What stays
// in the queue can still be given up as not sent. The caller holds mu.
func (c *Channel) takeBatch() []byte {
	batch, rest := c.out, []byte(nil)
	if len(batch) > maxBatch {
		batch, rest = c.split(batch)
	}
	c.out = append(c.spare[:0], rest...)
	clear(rest)
	c.spare = nil
	c.taken += uint64(len(batch))
	return batch
}

// split cuts whole frames of at most maxBatch bytes off, at least one.
func (c *Channel) split(frames []byte) (batch, rest []byte) {
	end := 0
	for end < len(frames) {
		n := lengthSize + int(binary.BigEndian.Uint16(frames[end:]))
		if c.cfg.BareLength {
			n += c.cfg.HeaderLength
		}
		if end > 0 && end+n > maxBatch {
			break
		}
		end += n
	}
	return frames[:end], frames[end:]
}

// write is the writing goroutine: it writes what others have queued, until the channel ends.
func (c *Channel) write() {
	for {
		select {
		case <-c.wake:
		case <-c.done:
			return
		}
		// Whoever is about to queue does so first: one write for many.
		runtime.Gosched()
		c.mu.Lock()
		batch := c.takeBatch()
		c.mu.Unlock()
		c.send(batch)
	}
}

// send writes a batch and passes on the right to write: to the writing goroutine if there is more, else to nobody.
func (c *Channel) send(batch []byte) {
	var n int
	var err error
	if len(batch) > 0 { // it is empty when all that was queued has been given up
		n, err = c.socket.send(c.nc, batch, time.Now().Add(c.frameTimeout))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.end(fmt.Errorf("write: %w", err), false, c.taken-uint64(len(batch)-n))
	}
	clear(batch) // frames carry PIN blocks
	if cap(batch) <= maxBatch {
		c.spare = batch[:0]
	}
	if len(c.out) == 0 {
		c.writing = false
		return
	}
	c.wake <- struct{}{}
}
