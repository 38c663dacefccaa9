package pos

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// numbers lists the fields that are present, in order.
func (p packet) numbers() []int {
	list := make([]int, 0, len(p.fields))
	for n := range p.fields {
		list = append(list, n)
	}
	slices.Sort(list)
	return list
}

// prefix is TPDU and header.
func (p packet) prefix() ([]byte, error) {
	out, err := hex.DecodeString(p.tpdu + p.header)
	if err != nil || len(out) != tpduSize+headerBytes {
		return nil, fmt.Errorf("TPDU has 10 digits and header 12, these are %q and %q", p.tpdu, p.header)
	}
	return out, nil
}

// body packs MTI, bitmap and fields. With withMAC the bit of field 64 is set although the field is not there yet: that
// is what the MAC covers (facts/unionpay.md §4).
func (p packet) body(withMAC bool) ([]byte, error) {
	out, err := hex.DecodeString(p.mti)
	if err != nil || len(out) != mtiSize {
		return nil, fmt.Errorf("MTI %q has not 4 digits", p.mti)
	}
	numbers := p.numbers()
	bitmap := make([]byte, bitmapSize)
	for _, n := range numbers {
		if n < 1 || n > lastField {
			return nil, fmt.Errorf("there is no field %d", n)
		}
		bitmap[(n-1)/8] |= 0x80 >> ((n - 1) % 8)
	}
	if withMAC {
		bitmap[bitmapSize-1] |= 1
	}
	out = append(out, bitmap...)
	for _, n := range numbers {
		packed, err := packField(n, p.fields[n])
		if err != nil {
			return nil, err
		}
		out = append(out, packed...)
	}
	return out, nil
}

// packField packs one field. Errors name the field and never show its value.
func packField(n int, value string) ([]byte, error) {
	f, ok := fieldTable[n]
	if !ok {
		return nil, fmt.Errorf("field %d is not in this dialect", n)
	}
	fixed := f.kind <= binary
	if fixed && len(value) != f.size || !fixed && (len(value) > f.size || len(value) == 0) {
		return nil, fmt.Errorf("field %d: length %d does not fit %d", n, len(value), f.size)
	}
	switch f.kind {
	case text, binary:
		return []byte(value), nil
	case llText:
		return append(packLength(len(value), 1), value...), nil
	case lllBytes:
		return append(packLength(len(value), 2), value...), nil
	default: // Digits; they are packed below.
	}
	packed, err := packDigits(value, f.kind)
	if err != nil {
		return nil, fmt.Errorf("field %d: %w", n, err)
	}
	switch f.kind {
	case llDigits, llTrack:
		return append(packLength(len(value), 1), packed...), nil
	case lllDigits, lllTrack:
		return append(packLength(len(value), 2), packed...), nil
	default:
		return packed, nil
	}
}

func packDigits(value string, k kind) ([]byte, error) {
	alphabet := "0123456789"
	if k == llTrack || k == lllTrack {
		alphabet = "0123456789ABCDEF"
	}
	if strings.Trim(value, alphabet) != "" {
		return nil, fmt.Errorf("a character that is no digit")
	}
	if len(value)%2 != 0 {
		if k == bcdRight {
			value = "0" + value
		} else {
			value += "0"
		}
	}
	return hex.DecodeString(value)
}

// packLength is a BCD length of size bytes.
func packLength(n, size int) []byte {
	out := make([]byte, size)
	for i := size - 1; i >= 0; i-- {
		out[i] = byte(n/10%10)<<4 | byte(n%10)
		n /= 100
	}
	return out
}

// frame is a whole message on the wire: length, TPDU, header, body.
func (p packet) frame() ([]byte, error) {
	prefix, err := p.prefix()
	if err != nil {
		return nil, err
	}
	body, err := p.body(false)
	if err != nil {
		return nil, err
	}
	n := len(prefix) + len(body)
	if n > maxPacket {
		return nil, fmt.Errorf("message of %d bytes is longer than %d", n, maxPacket)
	}
	return append(append([]byte{byte(n >> 8), byte(n)}, prefix...), body...), nil
}
