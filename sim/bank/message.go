package bank

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// The frame of the dialect, docs/dialect-core.md.
const (
	lengthSize = 2  // Big-endian count of the bytes that follow.
	mtiSize    = 4  // ASCII digits.
	bitmapSize = 32 // Primary and secondary bitmap, 16 upper-case hex characters each.
	macSize    = 16 // Field 128, upper-case hex characters.

	// maxMessage bounds what is read for one message (dialect §1): all fields at their longest need less, so a longer length
	// means that the framing is lost.
	maxMessage = 2048
	// minMessage is an MTI with its bitmaps.
	minMessage = mtiSize + bitmapSize

	lastField = 128

	// issuerField is additional response data, issuer code 11 + acquirer code 11 (facts/unionpay.md §2). It is for
	// answers: refused in requests, and sent when Config.IssuerCode is set.
	issuerField = 44
)

// charset says which characters a field may hold.
type charset uint8

const (
	numeric charset = iota + 1 // n: digits.
	alnum                      // an: digits, letters, space.
	text                       // ans: printable ASCII.
	track                      // z: digits and the separator =.
	hexText                    // hex: 0-9 and A-F, two characters for a byte.
)

// format is one row of the field table.
type format struct {
	prefix int // Decimal length digits in front: 0 fixed, 2 LL, 3 LLL.
	size   int // Exact (fixed) or largest (LL, LLL) count of characters.
	set    charset
}

// formats is the field table of docs/dialect-core.md §3. A field that is not here is refused.
var formats = [lastField + 1]format{
	2:   {2, 19, numeric},      // Primary account number.
	3:   {0, 6, numeric},       // Processing code.
	4:   {0, 12, numeric},      // Amount in the minor unit.
	7:   {0, 10, numeric},      // Transmission date and time MMDDhhmmss.
	11:  {0, 6, numeric},       // Trace.
	12:  {0, 6, numeric},       // Local time hhmmss.
	13:  {0, 4, numeric},       // Local date MMDD.
	14:  {0, 4, numeric},       // Expiry YYMM.
	15:  {0, 4, numeric},       // Settlement date MMDD.
	18:  {0, 4, numeric},       // Merchant category.
	22:  {0, 3, numeric},       // Entry mode.
	23:  {0, 3, numeric},       // Card sequence number.
	25:  {0, 2, numeric},       // Condition code.
	26:  {0, 2, numeric},       // PIN capture code.
	32:  {2, 11, numeric},      // Acquirer.
	35:  {2, 37, track},        // Track 2.
	36:  {3, 104, track},       // Track 3.
	37:  {0, 12, alnum},        // Retrieval reference number.
	38:  {0, 6, alnum},         // Authorisation code.
	39:  {0, 2, alnum},         // Response code, or the cause of a reversal.
	41:  {0, 8, text},          // Terminal.
	42:  {0, 15, text},         // Merchant.
	48:  {3, 255, text},        // Additional data.
	49:  {0, 3, alnum},         // Currency.
	52:  {0, 16, hexText},      // PIN block under the zone PIN key.
	53:  {0, 16, numeric},      // Security control.
	54:  {3, 120, alnum},       // Balances.
	55:  {3, 510, hexText},     // Chip data.
	60:  {3, 60, text},         // Transaction type and private data.
	61:  {0, 12, alnum},        // Original's retrieval reference number.
	64:  {0, macSize, hexText}, // MAC of peers without a secondary bitmap: defined, not used here.
	70:  {0, 3, numeric},       // Network management code.
	90:  {0, 42, numeric},      // Original: MTI 4, trace 6, date and time 10, acquirer 11, forwarder 11.
	128: {0, macSize, hexText}, // MAC.
}

// issuerFormat is the format of issuerField in answers.
var issuerFormat = format{2, 25, text}

// message is one decoded message or one answer in the making. The values of a decoded message are parts of the buffer it
// was read from and live as long as that.
type message struct {
	mti    string
	bitmap [2]uint64
	value  [lastField + 1][]byte
}

func (m *message) has(field int) bool {
	return m.bitmap[(field-1)/64]&(1<<(63-(field-1)%64)) != 0
}

// get is the value of a field, empty when it is absent.
func (m *message) get(field int) string { return string(m.value[field]) }

// set puts a field into an answer. The caller keeps to the field table; pack checks it.
func (m *message) set(field int, value string) { m.put(field, []byte(value)) }

func (m *message) put(field int, value []byte) {
	m.bitmap[(field-1)/64] |= 1 << (63 - (field-1)%64)
	m.value[field] = value
}

// parseMTI reads the first four bytes; a message without an MTI cannot be answered at all.
func parseMTI(data []byte) (string, error) {
	if len(data) < mtiSize || !digits(data[:mtiSize]) {
		return "", fmt.Errorf("MTI is not four digits")
	}
	return string(data[:mtiSize]), nil
}

func (m *message) reset() {
	clear(m.value[:])
	m.bitmap = [2]uint64{}
}

// parse decodes a whole message (without the length). After an error the fields in front of the faulty one are there,
// so that the refusal can echo them. Errors name fields and lengths and never values.
func (m *message) parse(data []byte) error {
	m.reset()
	var err error
	if m.mti, err = parseMTI(data); err != nil {
		return err
	}
	if len(data) < minMessage {
		return fmt.Errorf("bitmap: message ends after %d bytes", len(data))
	}
	var declared [2]uint64
	for i := range declared {
		if declared[i], err = parseBitmap(data[mtiSize+16*i : mtiSize+16*(i+1)]); err != nil {
			return err
		}
	}
	const secondary = 1 << 63 // Bit 1: the secondary bitmap follows. Always set in this dialect.
	if declared[0]&secondary == 0 {
		return fmt.Errorf("bitmap: bit 1 is not set")
	}
	declared[0] &^= secondary
	rest := data[minMessage:]
	for i, word := range declared {
		for word != 0 {
			bit := bits.LeadingZeros64(word)
			word &^= 1 << (63 - bit)
			if rest, err = m.take(64*i+bit+1, rest); err != nil {
				return err
			}
		}
	}
	if len(rest) != 0 {
		return fmt.Errorf("%d bytes after the last field", len(rest))
	}
	return nil
}

// take cuts one field from the front of rest.
func (m *message) take(field int, rest []byte) ([]byte, error) {
	f := formats[field]
	if f.size == 0 {
		return nil, fmt.Errorf("field %d is not defined", field)
	}
	size := f.size
	if f.prefix > 0 {
		if len(rest) < f.prefix || !digits(rest[:f.prefix]) {
			return nil, fmt.Errorf("field %d: length is not %d digits", field, f.prefix)
		}
		size = 0
		for _, c := range rest[:f.prefix] {
			size = 10*size + int(c-'0')
		}
		if size == 0 || size > f.size || f.set == hexText && size%2 != 0 {
			return nil, fmt.Errorf("field %d: length %d, allowed 1 to %d, even for hex", field, size, f.size)
		}
		rest = rest[f.prefix:]
	}
	if len(rest) < size {
		return nil, fmt.Errorf("field %d: %d bytes left of %d", field, len(rest), size)
	}
	if !f.set.holds(rest[:size]) {
		return nil, fmt.Errorf("field %d: a character that the field may not hold", field)
	}
	m.put(field, rest[:size:size])
	return rest[size:], nil
}

// pack appends the frame, length included, and closes it with field 128.
func (m *message) pack(dst []byte, mac func([]byte) [desBlock]byte) ([]byte, error) {
	m.set(lastField, "")
	start := len(dst)
	dst = append(dst, 0, 0)
	dst = append(dst, m.mti...)
	dst = appendHex(dst, m.bitmap[0]|1<<63)
	dst = appendHex(dst, m.bitmap[1])
	for field := 2; field < lastField; field++ {
		if !m.has(field) {
			continue
		}
		f, value := formats[field], m.value[field]
		if field == issuerField {
			f = issuerFormat
		}
		if f.prefix == 0 && len(value) != f.size || len(value) > f.size || len(value) == 0 || !f.set.holds(value) {
			return dst[:start], fmt.Errorf("answer field %d does not fit its format", field)
		}
		switch f.prefix {
		case 2:
			dst = append(dst, '0'+byte(len(value)/10), '0'+byte(len(value)%10))
		case 3:
			dst = append(dst, '0'+byte(len(value)/100), '0'+byte(len(value)/10%10), '0'+byte(len(value)%10))
		}
		dst = append(dst, value...)
	}
	sum := mac(dst[start+lengthSize:])
	dst = appendHex(dst, binary.BigEndian.Uint64(sum[:]))
	binary.BigEndian.PutUint16(dst[start:], uint16(len(dst)-start-lengthSize))
	return dst, nil
}

func (c charset) holds(value []byte) bool {
	switch c {
	case numeric:
		return digits(value)
	case alnum:
		for _, b := range value {
			if (b < '0' || b > '9') && (b < 'A' || b > 'Z') && (b < 'a' || b > 'z') && b != ' ' {
				return false
			}
		}
	case text:
		for _, b := range value {
			if b < ' ' || b > '~' {
				return false
			}
		}
	case track:
		for _, b := range value {
			if (b < '0' || b > '9') && b != '=' {
				return false
			}
		}
	case hexText:
		for _, b := range value {
			if hexDigit(b) < 0 {
				return false
			}
		}
	default:
		return false
	}
	return true
}

func digits(value []byte) bool {
	for _, b := range value {
		if b < '0' || b > '9' {
			return false
		}
	}
	return true
}

func parseBitmap(value []byte) (uint64, error) {
	var word uint64
	for _, b := range value {
		d := hexDigit(b)
		if d < 0 {
			return 0, fmt.Errorf("bitmap is not upper-case hex")
		}
		word = word<<4 | uint64(d)
	}
	return word, nil
}

// hexDigit is the value of an upper-case hex character, or -1.
func hexDigit(b byte) int {
	switch {
	case b >= '0' && b <= '9':
		return int(b - '0')
	case b >= 'A' && b <= 'F':
		return int(b-'A') + 10
	}
	return -1
}

// decodeBlock turns 16 hex characters into a DES block. The field table has checked the characters.
func decodeBlock(value []byte) (block [desBlock]byte) {
	for i := range block {
		block[i] = byte(hexDigit(value[2*i])<<4 | hexDigit(value[2*i+1]))
	}
	return block
}

func appendHex(dst []byte, word uint64) []byte {
	const upper = "0123456789ABCDEF"
	for shift := 60; shift >= 0; shift -= 4 {
		dst = append(dst, upper[word>>shift&0xF])
	}
	return dst
}
