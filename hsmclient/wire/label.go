package wire

import (
	"bytes"
	"errors"
	"math/bits"
)

// Labels are serial numbers in an alphabet of 32 characters that every device and every trace shows as they are. The header takes
// the last digits, as many as it has room for, up to headerDigits; the trailer takes trailerDigits.
const (
	labelAlphabet = "0123456789ABCDEFGHJKLMNPQRSTUVWX"
	digitBits     = 5
	headerDigits  = 6 // a thousand million labels: more than any connection lives to see
	trailerDigits = 8
	trailerLen    = 1 + trailerDigits
)

var (
	errShort   = errors.New("an answer is shorter than its labels")
	errHeader  = errors.New("an answer has a header that was never sent")
	errTrailer = errors.New("an answer is without the trailer of its request")
)

// digitOf is the inverse of labelAlphabet, 0xFF for what is not in it.
var digitOf = func() (table [256]byte) {
	for i := range table {
		table[i] = 0xFF
	}
	for i := range len(labelAlphabet) {
		table[labelAlphabet[i]] = byte(i)
	}
	return table
}()

// header labels requests in the header of a length.
type header struct {
	length int
	digits int
	mask   uint64 // of the serial number
}

func newHeader(length int) header {
	digits := min(length, headerDigits)
	return header{length: length, digits: digits, mask: 1<<(digitBits*digits) - 1}
}

// labels is how many different labels there are.
func (h header) labels() int { return 1 << bits.Len64(h.mask) }

// of is the label of a serial number.
func (h header) of(serial uint64) uint32 { return uint32(serial & h.mask) }

// append writes the label, zeros in front.
func (h header) append(dst []byte, serial uint64) []byte {
	for range h.length - h.digits {
		dst = append(dst, '0')
	}
	return appendDigits(dst, serial, h.digits)
}

// read is the inverse of append.
func (h header) read(frame []byte) (uint32, error) {
	if len(frame) < h.length {
		return 0, errShort
	}
	filling := h.length - h.digits
	if filling > 0 && len(bytes.TrimLeft(frame[:filling], "0")) > 0 {
		return 0, errHeader
	}
	n, ok := readDigits(frame[filling:h.length])
	if !ok {
		return 0, errHeader
	}
	return uint32(n), nil
}

// cutTrailer takes the trailer off the end and gives its serial number.
func cutTrailer(frame []byte) (rest []byte, serial uint64, err error) {
	at := len(frame) - trailerLen
	if at < 0 || frame[at] != trailerMark {
		return nil, 0, errTrailer
	}
	serial, ok := readDigits(frame[at+1:])
	if !ok {
		return nil, 0, errTrailer
	}
	return frame[:at], serial, nil
}

func appendTrailer(dst []byte, serial uint64) []byte {
	return appendDigits(append(dst, trailerMark), serial, trailerDigits)
}

func appendDigits(dst []byte, n uint64, digits int) []byte {
	for i := digits - 1; i >= 0; i-- {
		dst = append(dst, labelAlphabet[n>>(digitBits*i)&31])
	}
	return dst
}

func readDigits(text []byte) (n uint64, ok bool) {
	for _, c := range text {
		d := digitOf[c]
		if d == 0xFF {
			return 0, false
		}
		n = n<<digitBits | uint64(d)
	}
	return n, true
}
