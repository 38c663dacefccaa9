package unionpay

import (
	"errors"
	"fmt"

	"github.com/keyward/keyward/iso"
)

const (
	tpduLen   = 5
	headerLen = 6
	tpduID    = 0x60 // First byte of every TPDU.

	// The caller-id block of dial-up network controllers, between TPDU and header (facts/unionpay.md §1): the letters LRI, a 2-byte
	// length of 28, 8 bytes caller, 8 bytes called, 12 other bytes.
	callerIDMark = "LRI\x00\x1C"
	callerIDLen  = len(callerIDMark) + 28
)

// ErrFraming is the class of faults in front of the message: a TPDU or header that is none. Sender and receiver no longer agree where
// messages begin, so the caller closes the connection.
var ErrFraming = errors.New("framing fault")

// TPDU is the transport header: 60, destination (2 bytes), source (2 bytes).
type TPDU [tpduLen]byte

// Swap is the TPDU of the answer: destination and source change places.
func (t TPDU) Swap() TPDU { return TPDU{t[0], t[3], t[4], t[1], t[2]} }

// Header is the message header as 12 packed digits: application class n2, version n2, terminal state n1, processing requirement n1,
// sub-version n6 (facts/unionpay.md §1).
type Header [headerLen]byte

// Class is the application class: 60 magnetic stripe, 61 chip, 62 and 63 value-added.
func (h Header) Class() string { return digits(h[0]) }

// Version is the overall software version, for example 31.
func (h Header) Version() string { return digits(h[1]) }

// TestState says that the terminal is in test or training state.
func (h Header) TestState() bool { return h[2]>>4 == 1 }

// Processing is the processing requirement, 0 to 9: 0 none, 1 download terminal parameters, 2 upload status, 3 sign on again, 4 fetch
// CA keys, 5 fetch IC parameters, and so on.
func (h Header) Processing() int { return int(h[2] & 0x0F) }

// WithProcessing is the header with another processing requirement; a value outside 0 to 9 counts as 0.
func (h Header) WithProcessing(requirement int) Header {
	if requirement < 0 || requirement > 9 {
		requirement = 0
	}
	h[2] = h[2]&0xF0 | byte(requirement)
	return h
}

func digits(b byte) string { return string([]byte{'0' + b>>4, '0' + b&0x0F}) }

// Packet is one frame: transport header, message header, message.
type Packet struct {
	TPDU   TPDU
	Header Header
	// CallerID is the caller-id block as received, letters and length included; empty where there is none. It is not written.
	CallerID []byte
	// Message is never nil after Parse found no framing fault.
	Message *iso.Message
}

// Option changes what Parse accepts.
type Option uint8

// AllowCallerID lets Parse accept the caller-id block of dial-up network controllers; without it such a block is a framing fault.
const AllowCallerID Option = 1

// Parse reads a frame, which excludes the 2-byte length in front. Two classes of faults: an error that wraps ErrFraming comes
// without a packet; an *iso.DecodeError (anything from the MTI on) comes with a packet whose message holds what was decoded
// before the fault, so that the caller can answer 30. The packet keeps no reference to frame.
func Parse(frame []byte, options ...Option) (*Packet, error) {
	start, err := messageStart(frame)
	if err != nil {
		return nil, err
	}
	p := &Packet{TPDU: TPDU(frame[:tpduLen]), Header: Header(frame[start-headerLen : start])}
	if start > tpduLen+headerLen {
		allowed := false
		for _, o := range options {
			allowed = allowed || o == AllowCallerID
		}
		if !allowed {
			return nil, fmt.Errorf("%w: caller-id block is not allowed by the settings of this listener", ErrFraming)
		}
		p.CallerID = append([]byte(nil), frame[tpduLen:tpduLen+callerIDLen]...)
	}
	p.Message, err = table.Decode(frame[start:])
	if err != nil {
		var d *iso.DecodeError
		if errors.As(err, &d) {
			p.Message = d.Partial
		}
		return p, err
	}
	return p, nil
}

// messageStart checks TPDU and header and returns the offset of the MTI.
func messageStart(frame []byte) (int, error) {
	if len(frame) < tpduLen+headerLen {
		return 0, fmt.Errorf("%w: %d bytes are too few for TPDU and header", ErrFraming, len(frame))
	}
	if frame[0] != tpduID {
		return 0, fmt.Errorf("%w: TPDU starts with %02X, want %02X", ErrFraming, frame[0], tpduID)
	}
	start := tpduLen
	if string(frame[start:start+len(callerIDMark)]) == callerIDMark {
		start += callerIDLen
		if len(frame) < start+headerLen {
			return 0, fmt.Errorf("%w: %d bytes are too few for TPDU, caller id and header", ErrFraming, len(frame))
		}
	}
	for i, b := range frame[start : start+headerLen] {
		if b>>4 > 9 || b&0x0F > 9 {
			return 0, fmt.Errorf("%w: header byte %d is not two digits", ErrFraming, i+1)
		}
	}
	return start + headerLen, nil
}

// Encode writes the frame without its 2-byte length. A refusal is an *iso.EncodeError.
func (p *Packet) Encode() ([]byte, error) {
	frame := make([]byte, 0, tpduLen+headerLen+frameCapacity)
	frame = append(frame, p.TPDU[:]...)
	frame = append(frame, p.Header[:]...)
	if p.Message == nil {
		return nil, &iso.EncodeError{Field: 0, Reason: iso.BadMTI}
	}
	return table.Append(frame, p.Message)
}

// frameCapacity is the buffer that Encode starts with; longer messages make it grow.
const frameCapacity = 512

// Answer starts the answer to p: swapped TPDU, the same header with the given processing requirement, an empty message of the answer's
// type (MTI + 10). It fails where p is not a request.
func (p *Packet) Answer(processing int) (*Packet, error) {
	if p.Message == nil {
		return nil, errors.New("answer a packet: it has no message")
	}
	mti, ok := iso.AnswerMTI(p.Message.MTI())
	if !ok {
		return nil, errors.New("answer a packet: its message type is not that of a request")
	}
	return &Packet{TPDU: p.TPDU.Swap(), Header: p.Header.WithProcessing(processing), Message: iso.New(mti)}, nil
}
