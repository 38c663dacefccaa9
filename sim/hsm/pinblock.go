package hsm

import "crypto/rand"

const (
	minPIN     = 4  // ISO 9564-1: PINs have 4 to 12 digits.
	maxPIN     = 12 //
	panDigits  = 12 // The right 12 digits without the check digit.
	plusDigits = 18 // The PAN field of format 04: without the check digit, zeros on the left (facts/hsm.md §1.7.3).
	maxPANFull = 19 // ISO/IEC 7812.
)

// PIN block format codes (facts/hsm.md §1.4; 91 to 93 are ours, docs/hsm-sim.md §5.4).
const (
	pinISO0     = "01"
	pinDiebold  = "03"
	pinPlus     = "04" // As ISO-0 with the left twelve digits of the PAN.
	pinISO1     = "05"
	pinISO3     = "47"
	pinISO4     = "48"
	pinWide     = "91" // SM4: 16-byte block with the PAN.
	pinWideBare = "92" // SM4: 16-byte block without the PAN.
	pinWide8    = "93" // SM4: ISO-0 block and eight zero bytes.
)

// pinFormatAlg says which cipher a format belongs to; see formatFits.
var pinFormatAlg = map[string]algorithm{
	pinISO0: algDES, pinPlus: algDES, pinDiebold: algDES, pinISO1: algDES, pinISO3: algDES,
	pinISO4: algSM4, pinWide: algSM4, pinWideBare: algSM4, pinWide8: algSM4,
}

// account is the PAN of a PIN command: twelve digits, and for ISO-4 the whole number.
type account struct {
	twelve []byte // ASCII digits.
	full   []byte // ASCII digits, only with format 48.
	left   []byte // The left twelve digits, only with formats 04 and 48.
}

// formatFits says whether a format is made with a cipher. ISO-4 is with AES as well as with SM4.
func formatFits(format string, alg algorithm) bool {
	return pinFormatAlg[format] == alg && alg != 0 || format == pinISO4 && alg == algAES
}

// plusAccount splits the 18 digits of format 04. The number in them has twelve digits at least.
func plusAccount(digits []byte) account {
	if digits == nil {
		return account{}
	}
	start := 0
	for start < plusDigits-panDigits && digits[start] == '0' {
		start++
	}
	return account{twelve: digits[plusDigits-panDigits:], left: digits[start : start+panDigits]}
}

// openPIN deciphers a block and returns the PIN as ASCII digits.
func openPIN(k *key, format string, block []byte, pan account) ([]byte, errorCode) {
	clear := ecbDecrypt(k.block, block)
	switch format {
	case pinISO0:
		xorInto(clear, panField8(pan))
		return lengthPIN(nibbles(clear), 0, isF)
	case pinPlus:
		xorInto(clear, panField8(account{twelve: pan.left}))
		return lengthPIN(nibbles(clear), 0, isF)
	case pinDiebold:
		return dieboldPIN(nibbles(clear))
	case pinISO1:
		return lengthPIN(nibbles(clear), 1, anyNibble)
	case pinISO3:
		xorInto(clear, panField8(pan))
		return lengthPIN(nibbles(clear), 3, isLetter)
	case pinISO4:
		xorInto(clear, panFieldISO4(pan))
		k.block.Decrypt(clear, clear)
		return lengthPIN(nibbles(clear)[:16], 4, func(n byte) bool { return n == 0xA })
	case pinWide:
		xorInto(clear[8:], panField8(pan))
		return lengthPIN(nibbles(clear), 0, isF)
	case pinWideBare:
		return lengthPIN(nibbles(clear), 0, isF)
	case pinWide8:
		if !allZero(clear[8:]) {
			return nil, codePINBlock
		}
		xorInto(clear, panField8(pan))
		return lengthPIN(nibbles(clear[:8]), 0, isF)
	}
	return nil, codeFormat
}

// sealPIN builds a block and enciphers it.
func sealPIN(k *key, format string, pin []byte, pan account) ([]byte, errorCode) {
	var clear []byte
	switch format {
	case pinISO0:
		clear = packPIN(8, 0, pin, func() byte { return 0xF })
		xorInto(clear, panField8(pan))
	case pinPlus:
		clear = packPIN(8, 0, pin, func() byte { return 0xF })
		xorInto(clear, panField8(account{twelve: pan.left}))
	case pinDiebold:
		clear = packNibbles(8, pin, func() byte { return 0xF })
	case pinISO1:
		clear = packPIN(8, 1, pin, func() byte { return randomNibble(0, 16) })
	case pinISO3:
		clear = packPIN(8, 3, pin, func() byte { return randomNibble(10, 6) })
		xorInto(clear, panField8(pan))
	case pinISO4:
		clear = append(packPIN(8, 4, pin, func() byte { return 0xA }), make([]byte, 8)...)
		rand.Read(clear[8:])
		k.block.Encrypt(clear, clear)
		xorInto(clear, panFieldISO4(pan))
	case pinWide:
		clear = packPIN(16, 0, pin, func() byte { return 0xF })
		xorInto(clear[8:], panField8(pan))
	case pinWideBare:
		clear = packPIN(16, 0, pin, func() byte { return 0xF })
	case pinWide8:
		clear = append(packPIN(8, 0, pin, func() byte { return 0xF }), make([]byte, 8)...)
		xorInto(clear, panField8(pan))
	default:
		return nil, codeFormat
	}
	return ecbEncrypt(k.block, clear), codeOK
}

// lengthPIN reads control, length, PIN and filler. A block that is well formed but for its length is 24; everything else
// that does not fit, which a wrong key or PAN makes, is 20.
func lengthPIN(block []byte, control byte, filler func(byte) bool) ([]byte, errorCode) {
	n := int(block[1])
	if block[0] != control || 2+n > len(block) {
		return nil, codePINBlock
	}
	for i, v := range block[2:] {
		if i < n && v > 9 || i >= n && !filler(v) {
			return nil, codePINBlock
		}
	}
	if n < minPIN || n > maxPIN {
		return nil, codePINLength
	}
	return asciiDigits(block[2 : 2+n]), codeOK
}

// dieboldPIN reads digits up to the first F; only F may follow.
func dieboldPIN(block []byte) ([]byte, errorCode) {
	n := 0
	for n < len(block) && block[n] <= 9 {
		n++
	}
	for _, v := range block[n:] {
		if v != 0xF {
			return nil, codePINBlock
		}
	}
	if n < minPIN || n > maxPIN {
		return nil, codePINLength
	}
	return asciiDigits(block[:n]), codeOK
}

// packPIN builds control, length, PIN and filler in size bytes.
func packPIN(size int, control byte, pin []byte, filler func() byte) []byte {
	digits := make([]byte, 0, 2+len(pin))
	digits = append(digits, control+'0', byte(len(pin))+'0')
	return packNibbles(size, append(digits, pin...), filler)
}

// packNibbles packs characters as their value above '0' and fills up.
func packNibbles(size int, digits []byte, filler func() byte) []byte {
	out := make([]byte, size)
	for i := range 2 * size {
		var v byte
		if i < len(digits) {
			v = digits[i] - '0'
		} else {
			v = filler()
		}
		out[i/2] |= v << (4 * (1 - i%2))
	}
	return out
}

// panField8 is two zero bytes and twelve digits.
func panField8(pan account) []byte {
	return append([]byte{0, 0}, packNibbles(6, pan.twelve, func() byte { return 0 })...)
}

// panFieldISO4 is one digit for the length above twelve, the PAN and zeros (ISO 9564-1 format 4).
func panFieldISO4(pan account) []byte {
	digits := append([]byte{byte(len(pan.full)-panDigits) + '0'}, pan.full...)
	return packNibbles(16, digits, func() byte { return 0 })
}

func nibbles(b []byte) []byte {
	out := make([]byte, 0, 2*len(b))
	for _, v := range b {
		out = append(out, v>>4, v&0xF)
	}
	return out
}

func asciiDigits(values []byte) []byte {
	out := make([]byte, len(values))
	for i, v := range values {
		out[i] = v + '0'
	}
	return out
}

// randomNibble returns low plus a random value below span. The bias of the remainder does not matter for a filler.
func randomNibble(low, span byte) byte {
	var b [1]byte
	rand.Read(b[:])
	return low + b[0]%span
}

func isF(v byte) bool       { return v == 0xF }
func isLetter(v byte) bool  { return v >= 0xA }
func anyNibble(_ byte) bool { return true }
