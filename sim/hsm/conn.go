package hsm

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"time"
)

const (
	lengthBytes   = 2        // Big-endian length in front of every frame.
	commandBytes  = 2        // Command, or response code.
	defaultHeader = 4        // The factory value of the header's length (facts/hsm.md §1.1).
	maxHeader     = 255      //
	readBuffer    = 64 << 10 // Many short frames or one of the longest, so that few system calls serve many commands.

	// maxInFlight bounds the commands of one connection that wait for latency, pace or release. When it is reached the
	// device stops reading, as a real one does when its queue is full.
	maxInFlight = 256
	// writeTimeout ends connections whose client does not read its answers.
	writeTimeout = 10 * time.Second
)

// conn is one client connection.
type conn struct {
	device *Device
	port   *port
	id     uint64
	net    net.Conn
	reader *bufio.Reader
	ctx    context.Context //nolint:containedctx // It is the life of the connection; withheld and delayed answers wait on it.
	end    func()          // Closes the connection, any number of times.
	slots  chan struct{}   // One element per command in flight.

	writeMu sync.Mutex
	writer  *bufio.Writer
	sent    int  // Answers written.
	muted   bool // An answer was cut and nothing may follow it.

	swap exchange
}

func newConn(d *Device, p *port, nc net.Conn, id uint64) *conn {
	ctx, cancel := context.WithCancel(context.Background())
	return &conn{
		device: d, port: p, id: id, net: nc, reader: bufio.NewReaderSize(nc, readBuffer), writer: bufio.NewWriterSize(nc, readBuffer),
		ctx: ctx, end: func() { cancel(); _ = nc.Close() }, slots: make(chan struct{}, maxInFlight),
	}
}

// close ends the connection, with a reset when that is wanted.
func (c *conn) close(reset bool) {
	if reset {
		abortive(c.net)
	}
	c.end()
}

// abortive makes the close of a connection a reset instead of an orderly end.
func abortive(nc net.Conn) {
	if tcp, ok := nc.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // It fails only on a closed connection, which is what is wanted.
	}
}

// serve reads frames until the connection ends, then waits for the commands that are still at work.
func (c *conn) serve() {
	var late sync.WaitGroup
	defer c.device.forget(c)
	defer late.Wait()
	defer c.end()
	if !c.sleep(time.Duration(c.device.now.Load().SlowAcceptMS) * time.Millisecond) {
		return
	}
	header := c.device.settings.header
	buf := make([]byte, 0, 512)
	for {
		msg, ok := c.read(buf)
		if !ok {
			return
		}
		buf = msg // Grows to the longest frame of this connection, which is bounded by the length field.
		now, ok := c.flowing()
		if !ok {
			return
		}
		began := time.Now()
		c.device.count.requests.Add(1)
		name := string(msg[header : header+commandBytes])
		switch {
		case now.BlackHole:
			c.device.count.dropped.Add(1)
			c.record(began, len(msg), 0, reply{command: knownName(name)})
		case now.inline(name):
			r := c.execute(now, msg)
			answer := now.spoil(r, header)
			if !c.write(now, answer, !c.moreBuffered()) {
				return
			}
			c.record(began, len(msg), len(answer), r)
		default:
			if !c.flush() || !c.takeSlot() {
				return
			}
			own := append([]byte(nil), msg...)
			if now.SwapHeaderEvery > 0 {
				c.swap.enter(own[:header])
			}
			late.Go(func() { c.later(now, own, began) })
		}
	}
}

// flowing waits while the device has stopped reading and returns the condition that holds then.
func (c *conn) flowing() (*condition, bool) {
	for {
		now := c.device.now.Load()
		if !now.Stall {
			return now, true
		}
		select {
		case <-now.replaced:
		case <-c.ctx.Done():
			return nil, false
		}
	}
}

// read returns the next message without its length. It uses buf when that is large enough.
func (c *conn) read(buf []byte) ([]byte, bool) {
	var length [lengthBytes]byte
	if _, err := io.ReadFull(c.reader, length[:]); err != nil {
		return nil, false
	}
	n := c.messageBytes(length[:])
	if n < c.device.settings.header+commandBytes {
		c.device.count.badFrames.Add(1)
		c.flush()
		return nil, false
	}
	if n > cap(buf) {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	_, err := io.ReadFull(c.reader, buf)
	return buf, err == nil
}

// messageBytes is how many bytes follow a length field.
func (c *conn) messageBytes(length []byte) int {
	n := int(binary.BigEndian.Uint16(length))
	if c.device.settings.payloadOnly {
		n += c.device.settings.header
	}
	return n
}

// moreBuffered reports whether a whole further frame has arrived, so that its answer can leave in the same write.
func (c *conn) moreBuffered() bool {
	if c.reader.Buffered() < lengthBytes {
		return false
	}
	length, err := c.reader.Peek(lengthBytes)
	return err == nil && c.reader.Buffered() >= lengthBytes+c.messageBytes(length)
}

func (c *conn) takeSlot() bool {
	select {
	case c.slots <- struct{}{}:
		return true
	case <-c.ctx.Done():
		return false
	}
}

// later answers a command that has to wait.
func (c *conn) later(now *condition, msg []byte, began time.Time) {
	defer func() { <-c.slots }()
	d := c.device
	if !c.sleep(d.pace.reserve(now.CommandsPerSecond) + now.delay()) {
		return
	}
	r := c.execute(now, msg)
	header := d.settings.header
	answer := now.spoil(r, header)
	if now.holds(r.command) && !d.hold.hold(c.ctx, r.command, func() bool { return d.now.Load().holds(r.command) }) {
		return
	}
	if now.SwapHeaderEvery > 0 {
		c.swap.leave(now, msg[:header], answer)
	}
	if c.write(now, answer, true) {
		c.record(began, len(msg), len(answer), r)
	}
}

// sleep waits, or returns false when the connection ends first.
func (c *conn) sleep(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.ctx.Done():
		return false
	}
}

// execute carries a message out.
func (c *conn) execute(now *condition, msg []byte) reply {
	d := c.device
	s := station{allow: c.port.allow, lmks: now.lmks, settings: &d.settings, storage: d.storage, stats: d.stats, forced: now.ErrorCodes}
	return s.execute(msg)
}

// write sends an answer. Faults may have removed it, then nothing is sent and that is fine.
func (c *conn) write(now *condition, answer []byte, flush bool) bool {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	_ = c.net.SetWriteDeadline(time.Now().Add(writeTimeout)) // It fails only on a closed connection, which the write reports.
	if answer == nil || c.muted {
		c.device.count.dropped.Add(1)
		answer = nil
	}
	last := false
	if answer != nil {
		flush, last = c.put(now, answer, flush)
	}
	var err error
	if flush {
		err = c.writer.Flush()
	}
	if err != nil || last {
		c.close(now.Reset)
	}
	return err == nil && !last
}

// put writes one answer into the buffer, as the faults say. It reports whether the buffer must go out now, and whether the connection
// ends with it. The caller holds the lock; errors stay in the buffer until it is flushed.
func (c *conn) put(now *condition, answer []byte, flush bool) (flushNow, last bool) {
	n := len(answer)
	if c.device.settings.payloadOnly {
		n -= c.device.settings.header
	}
	var length [lengthBytes]byte
	binary.BigEndian.PutUint16(length[:], uint16(n))
	c.device.count.answers.Add(1)
	c.sent++
	_, _ = c.writer.Write(length[:])
	if now.every(countCut, now.CutEvery) {
		_, _ = c.writer.Write(answer[:len(answer)/2])
		c.muted = true
		return true, now.CutThen != cutStall
	}
	_, _ = c.writer.Write(answer)
	if now.every(countDuplicate, now.DuplicateEvery) {
		_, _ = c.writer.Write(length[:])
		_, _ = c.writer.Write(answer)
	}
	if now.CloseAfter > 0 && c.sent >= now.CloseAfter {
		return true, true
	}
	return flush, false
}

func (c *conn) flush() bool {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	return c.writer.Flush() == nil
}

func (c *conn) record(began time.Time, requestBytes, answerBytes int, r reply) {
	if r.code != "" {
		c.device.stats.add(r.command, began)
	}
	c.device.history.add(Entry{
		Time: began, Port: c.port.name, Connection: c.id, Command: r.command, RequestBytes: requestBytes, AnswerBytes: answerBytes,
		ErrorCode: string(r.code), DurationUS: time.Since(began).Microseconds(),
	})
}

// knownName is the command for the history: what a client sends as an unknown command may be anything and must not be kept.
func knownName(name string) string {
	if _, known := commands[name]; known {
		return name
	}
	return "??"
}
