package pos

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

var errShort = errors.New("the message ends too early")

// parsePacket decodes an answer without its length prefix. It is strict: undefined fields, over-long lengths, digits that
// are none and trailing bytes are refused. Errors never show field values. mab is what the MAC covers, nil without one.
func parsePacket(raw []byte) (p packet, mab []byte, err error) {
	const start = tpduSize + headerBytes
	if len(raw) < start+mtiSize {
		return packet{}, nil, errShort
	}
	p = packet{
		tpdu:   hexText(raw[:tpduSize]),
		header: hexText(raw[tpduSize:start]),
		mti:    hexText(raw[start : start+mtiSize]),
		fields: map[int]string{},
	}
	if !digitsOnly(p.mti) {
		return packet{}, nil, errors.New("MTI is not decimal")
	}
	rest := raw[start+mtiSize:]
	if len(rest) < bitmapSize {
		return packet{}, nil, fmt.Errorf("bitmap: %w", errShort)
	}
	bitmap := rest[:bitmapSize]
	rest = rest[bitmapSize:]
	for n := 1; n <= lastField; n++ {
		if bitmap[(n-1)/8]&(0x80>>((n-1)%8)) == 0 {
			continue
		}
		if n == lastField {
			mab = raw[start : len(raw)-len(rest)]
		}
		value, after, err := unpackField(n, rest)
		if err != nil {
			return packet{}, nil, fmt.Errorf("field %d: %w", n, err)
		}
		p.fields[n] = value
		rest = after
	}
	if len(rest) != 0 {
		return packet{}, nil, fmt.Errorf("%d bytes stand after the last field", len(rest))
	}
	return p, mab, nil
}

func unpackField(n int, in []byte) (value string, rest []byte, err error) {
	f, ok := fieldTable[n]
	if !ok {
		return "", nil, errors.New("not in this dialect")
	}
	size := f.size
	if lengthBytes := f.kind.lengthBytes(); lengthBytes > 0 {
		if size, in, err = unpackLength(in, lengthBytes); err != nil {
			return "", nil, err
		}
		if size > f.size {
			return "", nil, fmt.Errorf("length %d is over %d", size, f.size)
		}
	}
	count := size
	if f.kind.packed() {
		count = (size + 1) / 2
	}
	if len(in) < count {
		return "", nil, errShort
	}
	value, rest = string(in[:count]), in[count:]
	if !f.kind.packed() {
		return value, rest, nil
	}
	nibbles := hexText(in[:count])
	if f.kind == bcdRight {
		nibbles = nibbles[len(nibbles)-size:]
	} else {
		// The pad nibble is not counted and may be anything: 0 and F are both seen (facts/unionpay.md §1).
		nibbles = nibbles[:size]
	}
	if f.kind != llTrack && f.kind != lllTrack && !digitsOnly(nibbles) {
		return "", nil, errors.New("a nibble that is no digit")
	}
	return nibbles, rest, nil
}

// lengthBytes is the size of the length in front of a field.
func (k kind) lengthBytes() int {
	switch k {
	case llDigits, llTrack, llText:
		return 1
	case lllDigits, lllTrack, lllBytes:
		return 2
	default:
		return 0
	}
}

// packed says that two characters of the value share a byte.
func (k kind) packed() bool {
	switch k {
	case bcd, bcdRight, llDigits, lllDigits, llTrack, lllTrack:
		return true
	default:
		return false
	}
}

func unpackLength(in []byte, size int) (int, []byte, error) {
	if len(in) < size {
		return 0, nil, fmt.Errorf("length: %w", errShort)
	}
	n := 0
	for _, b := range in[:size] {
		if b>>4 > 9 || b&0xF > 9 {
			return 0, nil, errors.New("length is not decimal")
		}
		n = n*100 + int(b>>4)*10 + int(b&0xF)
	}
	return n, in[size:], nil
}

func hexText(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }

func digitsOnly(s string) bool {
	return strings.Trim(s, "0123456789") == ""
}
