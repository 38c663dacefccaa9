package load

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
)

// builder packs a message field by field; the caller keeps the order.
type builder struct{ body []byte }

func (b *builder) start(mti string, numbers ...int) {
	b.digits(prefix + mti)
	var bitmap [8]byte
	for _, n := range numbers {
		bitmap[(n-1)/8] |= 0x80 >> ((n - 1) % 8)
	}
	b.body = append(b.body, bitmap[:]...)
}

// packed turns an even number of digits into BCD. All callers pass digits of this package or numbers.
func packed(digits string) []byte {
	out, err := hex.DecodeString(digits)
	if err != nil {
		panic("load: digits were not checked") // Unreachable: the digits are constants, numbers or a parsed batch.
	}
	return out
}

func (b *builder) digits(d string) { b.body = append(b.body, packed(d)...) }
func (b *builder) text(s string)   { b.body = append(b.body, s...) }

// counted is a field of digits behind a 2-byte BCD count, filled on the right.
func (b *builder) counted(d string) {
	b.digits(fmt.Sprintf("%04d", len(d)))
	if len(d)%2 != 0 {
		d += "0"
	}
	b.digits(d)
}

// track is a field of digits behind a 1-byte BCD count.
func (b *builder) track(d string) {
	b.digits(fmt.Sprintf("%02d", len(d)))
	if len(d)%2 != 0 {
		d += "0"
	}
	b.digits(d)
}

// bytes is a field of bytes behind a 2-byte BCD count.
func (b *builder) bytes(s string) {
	b.digits(fmt.Sprintf("%04d", len(s)))
	b.text(s)
}

func (b *builder) frame() []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b.body))), b.body...)
}

// fields are the raw bytes of an answer's fields.
type fields map[int][]byte

// sizes says how long fields are: above 0 that many bytes, -1 a count of digits in 1 byte, -2 in 2 bytes, -3 a count of bytes in 1 byte,
// -4 in 2 bytes (facts/unionpay.md §2).
var sizes = map[int]int{
	2: -1, 3: 3, 4: 6, 11: 3, 12: 3, 13: 2, 14: 2, 15: 2, 22: 2, 23: 2, 25: 1, 26: 1, 32: -1, 35: -1, 37: 12, 38: 6, 39: 2, 41: 8, 42: 15,
	44: -3, 48: -2, 49: 3, 52: 8, 53: 8, 54: -4, 55: -4, 60: -2, 61: -2, 62: -4, 63: -4, 64: 8,
}

var errShort = errors.New("load: the answer ends too early")

// parse takes an answer apart (without its length).
func parse(answer []byte, mti string) (fields, error) {
	if len(answer) < fieldsAt {
		return nil, errShort
	}
	if got := hex.EncodeToString(answer[prefixSize:bitmapAt]); got != mti {
		return nil, fmt.Errorf("load: the answer is a %s, want %s", got, mti)
	}
	bitmap, rest := answer[bitmapAt:fieldsAt], answer[fieldsAt:]
	out := make(fields, 20)
	for n := 1; n <= 64; n++ {
		if bitmap[(n-1)/8]&(0x80>>((n-1)%8)) == 0 {
			continue
		}
		size, known := sizes[n]
		if !known {
			return nil, fmt.Errorf("load: the answer has field %d, which is not expected", n)
		}
		head := 0
		if size < 0 {
			if head = 1; size%2 == 0 { // -2 and -4
				head = 2
			}
			if len(rest) < head {
				return nil, errShort
			}
			count := 0
			for _, b := range rest[:head] {
				count = count*100 + int(b>>4)*10 + int(b&15)
			}
			if size >= -2 {
				count = (count + 1) / 2
			}
			size = count
		}
		if len(rest) < head+size {
			return nil, errShort
		}
		out[n], rest = rest[head:head+size], rest[head+size:]
	}
	if len(rest) != 0 {
		return nil, errors.New("load: bytes follow the last field")
	}
	return out, nil
}

// terminalOf finds field 41 of an answer, to tell the terminals of one connection apart.
func terminalOf(answer []byte) (string, error) {
	if len(answer) < bitmapAt {
		return "", errShort
	}
	f, err := parse(answer, hex.EncodeToString(answer[prefixSize:bitmapAt]))
	if err != nil {
		return "", err
	}
	return string(f[41]), nil
}
