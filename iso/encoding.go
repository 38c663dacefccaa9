package iso

import (
	"github.com/moov-io/iso8583/encoding"
	"github.com/moov-io/iso8583/prefix"
)

// Encoding is a moov encoder that can also append to a buffer and read from a string, which saves the copies.
type Encoding interface {
	encoding.Encoder
	// Append writes value after dst. The error is a Reason; dst may then hold part of the value.
	Append(dst []byte, value string) ([]byte, error)
	// Value reads a value of length units (digits, characters or bytes: what the length prefix counts) from the start of data and says how
	// many bytes it took. The error is a Reason.
	Value(data string, length int) (value string, read int, err error)
}

// Prefix is a moov prefixer that can also append to a buffer.
type Prefix interface {
	prefix.Prefixer
	// AppendLength writes the prefix for length units after dst. The error is a Reason.
	AppendLength(dst []byte, maxLen, length int) ([]byte, error)
}

// charset is an encoding whose characters stand on the line as they are.
type charset struct {
	name   string
	reason Reason
	allow  [256]bool
}

// The text encodings. Lengths count bytes.
var (
	// Digits is n: ASCII digits.
	Digits Encoding = newCharset("n", BadDigit, "0123456789")
	// Track is z in ASCII: digits and the separator =.
	Track Encoding = newCharset("z", BadDigit, "0123456789=")
	// Alphanumeric is an: digits, letters and space.
	Alphanumeric Encoding = newCharset("an", BadChar, "0123456789 ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
	// Printable is ans: 20 to 7E hex.
	Printable Encoding = newCharset("ans", BadChar, printable())
	// Raw is b: bytes as they are; also GBK text, which is passed on and never looked into.
	Raw Encoding = newCharset("b", BadChar, allBytes())
	// Hex is b written as two upper-case hexadecimal characters per byte. Lengths count bytes, not characters.
	Hex Encoding = hexEncoding{}
)

// Fixed is the prefix of a field of fixed length: none on the line, but the length must be right.
var Fixed Prefix = fixed{}

func printable() string {
	b := make([]byte, 0, 0x7F-0x20)
	for c := byte(0x20); c < 0x7F; c++ {
		b = append(b, c)
	}
	return string(b)
}

func allBytes() string {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	return string(b)
}

func newCharset(name string, reason Reason, chars string) *charset {
	c := &charset{name: name, reason: reason}
	for i := range len(chars) {
		c.allow[chars[i]] = true
	}
	return c
}

func (c *charset) check(s string) error {
	for i := range len(s) {
		if !c.allow[s[i]] {
			return c.reason
		}
	}
	return nil
}

// Append implements Encoding.
func (c *charset) Append(dst []byte, value string) ([]byte, error) {
	if err := c.check(value); err != nil {
		return dst, err
	}
	return append(dst, value...), nil
}

// Value implements Encoding.
func (c *charset) Value(data string, length int) (string, int, error) {
	if length < 0 || len(data) < length {
		return "", 0, Short
	}
	if err := c.check(data[:length]); err != nil {
		return "", 0, err
	}
	return data[:length], length, nil
}

// Encode implements moov's Encoder.
func (c *charset) Encode(value []byte) ([]byte, error) { return c.Append(nil, string(value)) }

// Decode implements moov's Encoder.
func (c *charset) Decode(data []byte, length int) ([]byte, int, error) {
	return DecodeWith(c, data, length)
}

type hexEncoding struct{}

const hexDigits = "0123456789ABCDEF"

// Append implements Encoding.
func (hexEncoding) Append(dst []byte, value string) ([]byte, error) {
	for i := range len(value) {
		dst = append(dst, hexDigits[value[i]>>4], hexDigits[value[i]&0x0F])
	}
	return dst, nil
}

// Value implements Encoding.
func (hexEncoding) Value(data string, length int) (string, int, error) {
	// Compared by division, since twice a hostile length could overflow.
	if length < 0 || len(data)/2 < length {
		return "", 0, Short
	}
	out := make([]byte, length)
	for i := range out {
		hi, ok1 := nibble(data[2*i])
		lo, ok2 := nibble(data[2*i+1])
		if !ok1 || !ok2 {
			return "", 0, BadHex
		}
		out[i] = hi<<4 | lo
	}
	return string(out), 2 * length, nil
}

// Encode implements moov's Encoder.
func (h hexEncoding) Encode(value []byte) ([]byte, error) { return h.Append(nil, string(value)) }

// Decode implements moov's Encoder.
func (h hexEncoding) Decode(data []byte, length int) ([]byte, int, error) {
	return DecodeWith(h, data, length)
}

func nibble(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// DecodeWith is moov's Decode in terms of Value, for encodings.
func DecodeWith(e Encoding, data []byte, length int) ([]byte, int, error) {
	value, read, err := e.Value(string(data), length)
	if err != nil {
		return nil, 0, err
	}
	return []byte(value), read, nil
}

type fixed struct{}

// AppendLength implements Prefix.
func (fixed) AppendLength(dst []byte, maxLen, length int) ([]byte, error) {
	switch {
	case length < maxLen:
		return dst, Short
	case length > maxLen:
		return dst, LengthOverMax
	}
	return dst, nil
}

// EncodeLength implements moov's Prefixer.
func (f fixed) EncodeLength(maxLen, length int) ([]byte, error) {
	return f.AppendLength(nil, maxLen, length)
}

// DecodeLength implements moov's Prefixer.
func (fixed) DecodeLength(maxLen int, _ []byte) (int, int, error) { return maxLen, 0, nil }

// Inspect implements moov's Prefixer.
func (fixed) Inspect() string { return "Keyward.Fixed" }
