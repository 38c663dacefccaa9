package unionpay

import (
	"github.com/keyward/keyward/iso"
)

// bcd packs two characters into a byte. moov's stock BCD is not used: it cannot carry the separator D, one of its variants writes into the
// caller's array, and it builds its tables anew for every field (facts/platform.md "ISO 8583").
type bcd struct {
	right   bool // An odd number of digits gets its zero nibble at the left instead of a pad nibble at the right.
	nibbles bool // All 16 nibbles are values, with = for D: track data, which may be enciphered.
}

// The packed encodings. Lengths count digits.
var (
	// bcdLeft puts an odd number of digits to the left: the pad nibble at the right is written as 0 and read as anything, since hosts
	// pad with F too (facts/unionpay.md §1).
	bcdLeft iso.Encoding = bcd{}
	// bcdRight puts an odd number of digits to the right of a zero nibble.
	bcdRight iso.Encoding = bcd{right: true}
	// track is bcdLeft with = as nibble D; A, B, C, E, F occur only in the enciphered part.
	track iso.Encoding = bcd{nibbles: true}
)

// bad marks a character that is no nibble.
const bad = 0xFF

// digitNibbles and trackNibbles say which nibble a character is.
var digitNibbles, trackNibbles = nibbleTables()

// trackChars says which character a nibble is in track data.
const trackChars = "0123456789ABC=EF"

func nibbleTables() (digits, tracks [256]byte) {
	for i := range digits {
		digits[i], tracks[i] = bad, bad
	}
	for c := byte('0'); c <= '9'; c++ {
		digits[c] = c - '0'
	}
	for n := range len(trackChars) {
		tracks[trackChars[n]] = byte(n)
	}
	tracks['D'] = 0x0D
	return digits, tracks
}

// Append implements iso.Encoding.
func (e bcd) Append(dst []byte, value string) ([]byte, error) {
	nibbles := &digitNibbles
	if e.nibbles {
		nibbles = &trackNibbles
	}
	i := 0
	if e.right && len(value)%2 == 1 {
		n := nibbles[value[0]]
		if n == bad {
			return dst, iso.BadDigit
		}
		dst = append(dst, n)
		i = 1
	}
	for ; i+1 < len(value); i += 2 {
		hi, lo := nibbles[value[i]], nibbles[value[i+1]]
		if hi == bad || lo == bad {
			return dst, iso.BadDigit
		}
		dst = append(dst, hi<<4|lo)
	}
	if i < len(value) {
		n := nibbles[value[i]]
		if n == bad {
			return dst, iso.BadDigit
		}
		dst = append(dst, n<<4)
	}
	return dst, nil
}

// Value implements iso.Encoding.
func (e bcd) Value(data string, length int) (string, int, error) {
	// Compared without adding, since a hostile length could overflow.
	if length < 0 || length/2+length%2 > len(data) {
		return "", 0, iso.Short
	}
	read := length/2 + length%2
	// The longest field of the dialect, 48, would need more; it is rare and may cost an allocation.
	var small [112]byte
	out := small[:0]
	skip := 0
	if e.right && length%2 == 1 {
		if data[0]>>4 != 0 {
			return "", 0, iso.BadDigit
		}
		skip = 1
	}
	for i := skip; i < length+skip; i++ {
		n := data[i/2]
		if i%2 == 0 {
			n >>= 4
		}
		n &= 0x0F
		switch {
		case e.nibbles:
			out = append(out, trackChars[n])
		case n <= 9:
			out = append(out, '0'+n)
		default:
			return "", 0, iso.BadDigit
		}
	}
	return string(out), read, nil
}

// Encode implements moov's Encoder.
func (e bcd) Encode(value []byte) ([]byte, error) { return e.Append(nil, string(value)) }

// Decode implements moov's Encoder.
func (e bcd) Decode(data []byte, length int) ([]byte, int, error) {
	return iso.DecodeWith(e, data, length)
}

// bcdPrefix is a length in packed digits: LL in one byte, LLL in two with a leading zero.
type bcdPrefix struct{ bytes int }

var (
	ll  iso.Prefix = bcdPrefix{1}
	lll iso.Prefix = bcdPrefix{2}
)

// AppendLength implements iso.Prefix.
func (p bcdPrefix) AppendLength(dst []byte, maxLen, length int) ([]byte, error) {
	limit := 99
	if p.bytes == 2 {
		limit = 9999
	}
	if length < 0 || length > maxLen || length > limit {
		return dst, iso.LengthOverMax
	}
	if p.bytes == 2 {
		dst = append(dst, byte(length/1000<<4|length/100%10))
	}
	return append(dst, byte(length/10%10<<4|length%10)), nil
}

// EncodeLength implements moov's Prefixer.
func (p bcdPrefix) EncodeLength(maxLen, length int) ([]byte, error) {
	return p.AppendLength(nil, maxLen, length)
}

// DecodeLength implements moov's Prefixer.
func (p bcdPrefix) DecodeLength(maxLen int, data []byte) (int, int, error) {
	if len(data) < p.bytes {
		return 0, 0, iso.ShortLength
	}
	length := 0
	for _, b := range data[:p.bytes] {
		if b>>4 > 9 || b&0x0F > 9 {
			return 0, 0, iso.BadLength
		}
		length = length*100 + int(b>>4)*10 + int(b&0x0F)
	}
	if length > maxLen {
		return 0, 0, iso.LengthOverMax
	}
	return length, p.bytes, nil
}

// Inspect implements moov's Prefixer.
func (p bcdPrefix) Inspect() string {
	if p.bytes == 2 {
		return "Keyward.BCD.LLL"
	}
	return "Keyward.BCD.LL"
}
