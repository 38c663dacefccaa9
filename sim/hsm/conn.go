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
	lengthBytes = 2               // Big-endian length in front of every frame.
	minMessage  = headerBytes + 2 // Header and command.
	readBuffer  = 64 << 10        // Many short frames or one of the longest, so that few system calls serve many commands.

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
}

func newConn(d *Device, p *port, nc net.Conn, id uint64) *conn {
	ctx, cancel := context.WithCancel(context.Background())
	return &conn{
		device: d, port: p, id: id, net: nc, reader: bufio.NewReaderSize(nc, readBuffer), writer: bufio.NewWriterSize(nc, readBuffer),
		ctx: ctx, end: func() { cancel(); _ = nc.Close() }, slots: make(chan struct{}, maxInFlight),
	}
}

// serve reads frames until the connection ends, then waits for the commands that are still at work.
func (c *conn) serve() {
	var late sync.WaitGroup
	defer c.device.forget(c)
	defer late.Wait()
	defer c.end()
	buf := make([]byte, 0, 512)
	for {
		msg, ok := c.read(buf)
		if !ok {
			return
		}
		buf = msg // Grows to the longest frame of this connection, which is bounded by the length field.
		began := time.Now()
		c.device.count.requests.Add(1)
		now := c.device.now.Load()
		name := string(msg[headerBytes:minMessage])
		switch {
		case now.BlackHole:
			c.device.count.dropped.Add(1)
			c.record(began, msg, 0, knownName(name), "")
		case now.inline(name):
			answer, name, code := c.execute(now, msg)
			if !c.write(answer, !c.moreBuffered()) {
				return
			}
			c.record(began, msg, len(answer), name, code)
		default:
			if !c.flush() || !c.takeSlot() {
				return
			}
			own := append([]byte(nil), msg...)
			late.Go(func() { c.later(now, own, began) })
		}
	}
}

// read returns the next message without its length. It uses buf when that is large enough.
func (c *conn) read(buf []byte) ([]byte, bool) {
	var length [lengthBytes]byte
	if _, err := io.ReadFull(c.reader, length[:]); err != nil {
		return nil, false
	}
	n := int(binary.BigEndian.Uint16(length[:]))
	if n < minMessage {
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

// moreBuffered reports whether a whole further frame has arrived, so that its answer can leave in the same write.
func (c *conn) moreBuffered() bool {
	if c.reader.Buffered() < lengthBytes {
		return false
	}
	length, err := c.reader.Peek(lengthBytes)
	return err == nil && c.reader.Buffered() >= lengthBytes+int(binary.BigEndian.Uint16(length))
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
	answer, name, code := c.execute(now, msg)
	if now.holds(name) && !d.hold.hold(c.ctx, name, func() bool { return d.now.Load().holds(name) }) {
		return
	}
	if c.write(answer, true) {
		c.record(began, msg, len(answer), name, code)
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

// execute answers a message and applies the faults to the answer, which is nil when it must not be sent.
func (c *conn) execute(now *condition, msg []byte) (answer []byte, name string, code errorCode) {
	answer, name, code = execute(msg, c.port.allow, now.lmk, &c.device.settings, now.ErrorCodes)
	return now.spoil(answer), name, code
}

// write sends an answer. Faults may have removed it, then nothing is sent and that is fine.
func (c *conn) write(answer []byte, flush bool) bool {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	_ = c.net.SetWriteDeadline(time.Now().Add(writeTimeout)) // It fails only on a closed connection, which the write reports.
	var err error
	if answer == nil {
		c.device.count.dropped.Add(1)
	} else {
		var length [lengthBytes]byte
		binary.BigEndian.PutUint16(length[:], uint16(len(answer)))
		_, _ = c.writer.Write(length[:]) // The error of a bufio.Writer stays and comes back below.
		_, err = c.writer.Write(answer)
		c.device.count.answers.Add(1)
	}
	if flush && err == nil {
		err = c.writer.Flush()
	}
	if err != nil {
		c.end()
	}
	return err == nil
}

func (c *conn) flush() bool {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	return c.writer.Flush() == nil
}

func (c *conn) record(began time.Time, msg []byte, answerBytes int, name string, code errorCode) {
	c.device.history.add(Entry{
		Time: began, Port: c.port.name, Connection: c.id, Command: name, RequestBytes: len(msg), AnswerBytes: answerBytes,
		ErrorCode: string(code), DurationUS: time.Since(began).Microseconds(),
	})
}

// knownName is the command for the history: what a client sends as an unknown command may be anything and must not be kept.
func knownName(name string) string {
	if _, known := commands[name]; known {
		return name
	}
	return "??"
}
