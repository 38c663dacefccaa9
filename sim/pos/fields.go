package pos

// kind is how a field is written (facts/unionpay.md §1 encodings, §2 table).
type kind byte

const (
	bcd       kind = iota + 1 // packed digits, fixed; an odd count is filled at the right
	bcdRight                  // packed digits, fixed; an odd count is filled at the left (F23)
	text                      // ASCII, or GBK for Chinese, fixed
	binary                    // bytes, fixed
	llDigits                  // 1 BCD byte counting digits, packed digits, filled at the right
	lllDigits                 // 2 BCD bytes counting digits
	llTrack                   // as llDigits; separator D, or any nibble when enciphered
	lllTrack                  // as lllDigits
	llText                    // 1 BCD byte counting bytes
	lllBytes                  // 2 BCD bytes counting bytes
)

// field is one row of the table: kind and the (largest) length in digits or bytes.
type field struct {
	kind kind
	size int
}

// fieldTable is facts/unionpay.md §2. A field that is not here does not exist in this dialect.
var fieldTable = map[int]field{
	2: {llDigits, 19}, 3: {bcd, 6}, 4: {bcd, 12}, 11: {bcd, 6}, 12: {bcd, 6}, 13: {bcd, 4}, 14: {bcd, 4}, 15: {bcd, 4},
	22: {bcd, 3}, 23: {bcdRight, 3}, 25: {bcd, 2}, 26: {bcd, 2}, 32: {llDigits, 11}, 35: {llTrack, 37}, 36: {lllTrack, 104},
	37: {text, 12}, 38: {text, 6}, 39: {text, 2}, 41: {text, 8}, 42: {text, 15}, 43: {text, 40}, 44: {llText, 25},
	46: {lllBytes, 999}, 48: {lllDigits, 322}, 49: {text, 3}, 52: {binary, 8}, 53: {bcd, 16}, 54: {lllBytes, 20},
	55: {lllBytes, 255}, 56: {lllBytes, 999}, 57: {lllBytes, 999}, 58: {lllBytes, 100}, 59: {lllBytes, 999},
	60: {lllDigits, 17}, 61: {lllDigits, 29}, 62: {lllBytes, 512}, 63: {lllBytes, 163}, 64: {binary, 8},
}

// Sizes of the parts of a packet (facts/unionpay.md §1).
const (
	tpduSize    = 5 // 60, destination 2, source 2
	headerBytes = 6 // class, version, state and requirement, sub-version
	mtiSize     = 2
	bitmapSize  = 8
	lastField   = 64
	// maxPacket bounds what the terminal reads: no answer of this dialect comes near it, and a wrong length prefix must not
	// make the terminal wait for 64 KB.
	maxPacket = 4096
)

// packet is a message: field values are digits for packed fields, hex nibbles for tracks, and bytes for all others.
type packet struct {
	tpdu, header string // 10 and 12 digits
	mti          string
	fields       map[int]string
}

func newPacket(mti string) packet { return packet{mti: mti, fields: map[int]string{}} }

// requirement is the processing requirement that a host sets in the header of its answer (facts/unionpay.md §1).
func (p packet) requirement() byte {
	const at = 5
	if len(p.header) <= at {
		return '0'
	}
	return p.header[at]
}
