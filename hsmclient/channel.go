package hsmclient

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/internal/link"
)

const (
	// labelLen is the header in front of every command, which the device echoes (facts/hsm.md §1.1: the factory setting).
	labelLen = 4
	// labelAlphabet has 32 characters that every device and every trace shows as they are.
	labelAlphabet = "0123456789ABCDEFGHJKLMNPQRSTUVWX"
	// labelTries bounds the search for a label that is not reserved by an answer which may still come. More than a million labels
	// are there, so one retry is a rare event.
	labelTries = 8
)

// label is the header of one command on one channel.
type label [labelLen]byte

var errNoLabel = errors.New("the answer is shorter than its header")

// channel is one connection to a member, kept and re-made by its link.
type channel struct {
	client *Client
	member *member
	link   *link.Client[label]

	conn   atomic.Pointer[net.Conn] // the connection of now, for poison
	serial atomic.Uint32            // of the last label
	heard  atomic.Int64             // when the last frame came, UnixNano

	usable   bool // guarded by Client.mu, like inFlight
	inFlight int
}

// labelOf finds the label in an answer. It runs on the reading goroutine.
func (ch *channel) labelOf(frame []byte) (label, error) {
	ch.heard.Store(time.Now().UnixNano())
	if len(frame) < labelLen {
		return label{}, errNoLabel
	}
	return label(frame[:labelLen]), nil
}

// nextLabel counts through all labels, so that none comes again before a million others.
func (ch *channel) nextLabel() (l label) {
	n := ch.serial.Add(1)
	for i := labelLen - 1; i >= 0; i-- {
		l[i] = labelAlphabet[n%uint32(len(labelAlphabet))]
		n /= uint32(len(labelAlphabet))
	}
	return l
}

// poison closes a connection whose answers cannot be trusted any more, or on which none come. The link makes a new one.
func (ch *channel) poison(nc *net.Conn, reason resetReason, cause error) {
	if nc == nil {
		return
	}
	ch.client.metrics.resets[reason].Inc()
	ch.client.cfg.Log.Error("HSM channel closed", "member", ch.member.cfg.Name, "reason", string(reason), "cause", cause)
	_ = (*nc).Close() // the connection is given up, whatever it says
}

// exchanger is a link client or one session of it.
type exchanger interface {
	Exchange(ctx context.Context, key label, frame []byte) ([]byte, error)
}

// conversation is what a driver talks through.
type conversation struct {
	ch  *channel
	via exchanger
}

var _ driver.Conversation = conversation{}

// frames lends buffers for label and request, which the link copies.
var frames = sync.Pool{New: func() any { b := make([]byte, 0, 512); return &b }}

// Exchange implements driver.Conversation.
func (v conversation) Exchange(ctx context.Context, request []byte) ([]byte, error) {
	buf, _ := frames.Get().(*[]byte)
	defer func() {
		clear(*buf)
		frames.Put(buf)
	}()
	var err error
	for range labelTries {
		l := v.ch.nextLabel()
		*buf = append(append((*buf)[:0], l[:]...), request...)
		var answer []byte
		answer, err = v.via.Exchange(ctx, l, *buf)
		if err == nil {
			return answer[labelLen:], nil
		}
		if !errors.Is(err, link.ErrKeyInUse) {
			break
		}
	}
	return nil, lineError(request, err)
}

// Do implements driver.Conversation.
func (conversation) Do(context.Context, string, int, func(context.Context, driver.Channel) (int, string, error)) error {
	return errors.New("this channel carries bytes only")
}

// lineError classes a failure on the line. All commands may be repeated, so that a request without an answer is a fault of
// the member, not an unknown outcome; only the caller's own hanging up is nobody's fault.
func lineError(request []byte, err error) error {
	class := command.MemberFault
	switch {
	case errors.Is(err, context.Canceled):
		class = command.Unavailable
	case errors.Is(err, context.DeadlineExceeded) && link.OutcomeOf(err) == link.NotSent:
		class = command.Unavailable
	}
	name := ""
	if len(request) >= 2 {
		name = string(request[:2])
	}
	return &command.Error{Class: class, Command: name, Err: err}
}
