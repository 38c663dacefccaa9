package core

import "github.com/keyward/keyward/iso"

// asciiPrefix is a length in ASCII digits that counts characters on the line. A variable field is never empty in this dialect.
type asciiPrefix struct {
	digits int
	unit   int // Characters per byte of the value: 2 for hex fields.
}

var (
	ll     iso.Prefix = asciiPrefix{digits: 2, unit: 1}
	lll    iso.Prefix = asciiPrefix{digits: 3, unit: 1}
	lllHex iso.Prefix = asciiPrefix{digits: 3, unit: 2}
)

// AppendLength implements iso.Prefix.
func (p asciiPrefix) AppendLength(dst []byte, maxLen, length int) ([]byte, error) {
	limit := 99
	if p.digits == 3 {
		limit = 999
	}
	switch {
	case length <= 0:
		return dst, iso.BadLength
	case length > maxLen || length > limit/p.unit:
		return dst, iso.LengthOverMax
	}
	n := length * p.unit
	if p.digits == 3 {
		dst = append(dst, '0'+byte(n/100))
	}
	return append(dst, '0'+byte(n/10%10), '0'+byte(n%10)), nil
}

// EncodeLength implements moov's Prefixer.
func (p asciiPrefix) EncodeLength(maxLen, length int) ([]byte, error) {
	return p.AppendLength(nil, maxLen, length)
}

// DecodeLength implements moov's Prefixer.
func (p asciiPrefix) DecodeLength(maxLen int, data []byte) (int, int, error) {
	if len(data) < p.digits {
		return 0, 0, iso.ShortLength
	}
	n := 0
	for _, c := range data[:p.digits] {
		if c < '0' || c > '9' {
			return 0, 0, iso.BadLength
		}
		n = n*10 + int(c-'0')
	}
	switch {
	case n == 0 || n%p.unit != 0:
		return 0, 0, iso.BadLength
	case n/p.unit > maxLen:
		return 0, 0, iso.LengthOverMax
	}
	return n / p.unit, p.digits, nil
}

// Inspect implements moov's Prefixer.
func (p asciiPrefix) Inspect() string {
	if p.digits == 2 {
		return "Keyward.ASCII.LL"
	}
	return "Keyward.ASCII.LLL"
}
