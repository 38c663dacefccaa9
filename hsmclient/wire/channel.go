package wire

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/keyward/keyward/hsmclient/driver"
)

// Limits of a channel.
const (
	// maxDepth bounds the requests under way whatever the caller asks for: more than a device works on at once.
	maxDepth = 1024
	// lateWindow is how long a request that was given up is remembered: longer than any device's work.
	lateWindow = time.Minute
	// maxLate bounds the requests without answer; a channel that has lost more is of no use.
	maxLate = 4096
	// directBytes is how much may be without an answer when a caller writes by itself: the smallest socket buffers hold more, so that
	// such a write never waits. Above it the writing goroutine writes, which nobody waits for.
	directBytes = 8 << 10
	// maxBatch is how many bytes one write joins: enough for hundreds of requests, and still one socket buffer.
	maxBatch = 64 << 10
)

var (
	errClosed    = errors.New("closed")
	errTooLate   = errors.New("too many requests were given up without an answer")
	errGivenUp   = errors.New("a request was given up after it was sent, and a late answer to it could not be told from the next one")
	errEchoes    = errors.New("the device gives labels back after all: it was sick when that was tried")
	errStray     = errors.New("an answer belongs to no request")
	errOtherPart = errors.New("an answer has the header of one request and the trailer of another")
)

// Channel is one connection. It implements driver.Channel.
type Channel struct {
	name   string // of the device
	cfg    Config
	header header
	way
	depth        int
	frameTimeout time.Duration
	onLate       func(driver.Late)

	nc     net.Conn // TLS or plain, over socket
	socket *countingConn
	places chan struct{} // one token for each request under way
	wake   chan struct{} // hands the right to write to the writing goroutine
	done   chan struct{}

	mu         sync.Mutex // never held while waiting
	cause      error      // why the channel ended; nil while it lives
	poisoned   bool
	answered   bool   // a whole frame has come
	serial     uint64 // of the last request
	pending    map[uint32]*call
	lates      map[uint32]late
	lateOrder  []late // oldest first; entries whose answer has come stay until their time is over
	out        []byte // frames that wait for the writer
	spare      []byte // the other buffer, while nobody writes from it
	queued     uint64 // bytes ever queued; the frames in out are the last of them
	taken      uint64 // bytes ever taken by the writer
	writing    bool   // somebody has the right to write
	unanswered int    // bytes of frames without an answer
}

var _ driver.Channel = (*Channel)(nil)

// newChannel takes over a connection.
func newChannel(cfg Config, w way, to driver.Target, nc net.Conn, socket *countingConn) *Channel {
	c := &Channel{
		name: to.Name, cfg: cfg, header: newHeader(cfg.HeaderLength), way: w, depth: 1, frameTimeout: to.FrameTimeout,
		onLate: to.Late, nc: nc, socket: socket, wake: make(chan struct{}, 1), done: make(chan struct{}),
		pending: map[uint32]*call{}, lates: map[uint32]late{},
	}
	places := 1
	if !w.single {
		// A quarter of the labels leaves room for those whose late answers may still come.
		c.depth = max(1, min(to.Depth, maxDepth, c.header.labels()/4))
		places = c.depth + 1 // driver.Channel: a heartbeat never waits behind work
	}
	c.places = make(chan struct{}, places)
	socket.heard.Store(time.Now().UnixNano())
	go c.read()
	go c.write()
	return c
}

// Depth implements driver.Channel.
func (c *Channel) Depth() int { return c.depth }

// Done implements driver.Channel.
func (c *Channel) Done() <-chan struct{} { return c.done }

// Cause implements driver.Channel.
func (c *Channel) Cause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// Poisoned implements driver.Channel.
func (c *Channel) Poisoned() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.poisoned
}

// Heard implements driver.Channel. Any byte counts.
func (c *Channel) Heard() time.Time { return time.Unix(0, c.socket.heard.Load()) }

// Close implements driver.Channel.
func (c *Channel) Close(cause error) {
	if cause == nil {
		cause = errClosed
	}
	c.mu.Lock()
	c.end(cause, errors.Is(cause, driver.ErrMalformed), c.taken)
	c.mu.Unlock()
}

// end ends the channel: every request under way fails at once. Of the stream, the bytes from sent on are known not to have gone out.
// Only the first cause counts. The caller holds mu.
func (c *Channel) end(cause error, poisoned bool, sent uint64) {
	if c.cause != nil {
		return
	}
	c.cause, c.poisoned = cause, poisoned
	for label, own := range c.pending {
		delete(c.pending, label)
		own.put(nil, c.failure(own.code, own.start < sent, lost(cause)))
	}
	clear(c.out)
	c.out = nil
	close(c.done)
	_ = c.socket.Close() // it is given up, whatever it says; not nc.Close, which would wait to tell a TLS peer goodbye
}

// lost is the cause as others than its originator see it: what came for one request says nothing of another.
func lost(cause error) error { return fmt.Errorf("%w: %v", driver.ErrLost, cause) } //nolint:errorlint // The chain ends here on purpose.

func (c *Channel) lost() error { return lost(c.Cause()) }
