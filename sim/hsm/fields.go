package hsm

import (
	"encoding/hex"
	"strconv"
)

// errorCode is the two-character error code of an answer (facts/hsm.md §1.6, docs/hsm-sim.md §3).
type errorCode string

const (
	codeOK         errorCode = "00"
	codeAdvice     errorCode = "01" // MAC wrong, or parity of an imported key corrected.
	codeLengthFlag errorCode = "05"
	codeSource     errorCode = "10" // Parity of the first or source key.
	codeDest       errorCode = "11" // Parity of the second or destination key.
	codeStorage    errorCode = "12"
	codeInput      errorCode = "15"
	codePINBlock   errorCode = "20"
	codeAccount    errorCode = "22"
	codeFormat     errorCode = "23"
	codePINLength  errorCode = "24"
	codeLMK        errorCode = "13" // No LMK of this id.
	codeIndex      errorCode = "21"
	codeScheme     errorCode = "26"
	codeLength     errorCode = "27" // Key length or algorithm does not fit.
	codeKeyType    errorCode = "28"
	codeForbidden  errorCode = "29"
	codeOldLMK     errorCode = "33" // Nothing in the key-change storage.
	codeDisabled   errorCode = "68"
	codeData       errorCode = "80"
)

// Error codes of key blocks (docs/hsm-sim.md §9.7).
const (
	codeBlockFormat  errorCode = "83"
	codeLMKKind      errorCode = "A1" // A key of the other LMK kind, or a command that the kind does not have.
	codeBlockLMK     errorCode = "A3"
	codeAuthenticity errorCode = "A4"
	codeKeyLength    errorCode = "A5"
	codeUsage        errorCode = "A6"
	codeAlgorithm    errorCode = "A7"
	codeMode         errorCode = "A8"
	codeVersion      errorCode = "A9"
	codeExport       errorCode = "AA"
	codeOptional     errorCode = "AB"
	codeWrapping     errorCode = "BB"
)

const (
	maxKeyBytes    = 24   // A triple-length DES key.
	maxTrailer     = 32   // facts/hsm.md §1.1.
	trailerMark    = 0x19 // Stands before a trailer.
	maxFactors     = 8    // Levels of diversification (facts/hsm.md §1.7.3).
	maxMACFactors  = 3    // The same for MAC commands.
	singleFactor   = 8    // Bytes of a PBOC factor.
	doubleFactor   = 16   // Bytes of an ECB factor.
	randomMaxBytes = 999  // N0 has three digits.
)

// fields reads the fields of a command in order. The first error stays, later reads return zero values, so that a
// command reads all its fields first and looks at the error once.
type fields struct {
	buf  []byte
	pos  int
	code errorCode // "" until something is wrong.

	storage *storage // Where keys named by an index are; nil: nowhere.
}

func (f *fields) fail(code errorCode) {
	if f.code == "" {
		f.code = code
	}
}

// take returns the next n bytes.
func (f *fields) take(n int) []byte {
	if f.code != "" || n < 0 || len(f.buf)-f.pos < n {
		f.fail(codeInput)
		return nil
	}
	b := f.buf[f.pos : f.pos+n]
	f.pos += n
	return b
}

// peek returns the next byte without taking it, or 0 at the end.
func (f *fields) peek() byte {
	if f.code != "" || f.pos >= len(f.buf) {
		return 0
	}
	return f.buf[f.pos]
}

// delimiter takes the next byte when it is the semicolon that sets variable and optional parts of a command off.
func (f *fields) delimiter() bool {
	if f.peek() != ';' {
		return false
	}
	f.pos++
	return true
}

// text returns the next n characters.
func (f *fields) text(n int) string { return string(f.take(n)) }

// oneOf returns the next n characters when they are among the choices, else it fails with 15.
func (f *fields) oneOf(n int, choices ...string) string {
	s := f.text(n)
	for _, c := range choices {
		if s == c {
			return s
		}
	}
	f.fail(codeInput)
	return ""
}

// number reads n digits of the base, 10 or 16, and checks the bounds.
func (f *fields) number(n, base, low, high int) int {
	raw := f.take(n)
	for _, c := range raw {
		if !isDigit(c) && (base != 16 || !isHexLetter(c)) {
			f.fail(codeInput)
		}
	}
	if f.code != "" {
		return 0
	}
	v, err := strconv.ParseUint(string(raw), base, 32)
	if err != nil || int(v) < low || int(v) > high {
		f.fail(codeInput)
		return 0
	}
	return int(v)
}

// hex reads n bytes written as 2n hex digits.
func (f *fields) hex(n int) []byte {
	raw := f.take(2 * n)
	out := make([]byte, len(raw)/2)
	if _, err := hex.Decode(out, raw); err != nil {
		f.fail(codeInput)
		return nil
	}
	return out
}

// digits reads n decimal digits; anything else fails with the given code.
func (f *fields) digits(n int, code errorCode) []byte {
	raw := f.take(n)
	for _, c := range raw {
		if !isDigit(c) {
			f.fail(code)
			return nil
		}
	}
	return raw
}

// lmkScheme reads the scheme letter of a key under the LMK, which may be a key block.
func (f *fields) lmkScheme() byte {
	if f.peek() == letterBlock {
		f.pos++
		return letterBlock
	}
	return f.scheme()
}

// scheme reads a scheme letter; "0" is an old way to write single length.
func (f *fields) scheme() byte {
	raw := f.take(1)
	if len(raw) == 0 {
		return 'Z'
	}
	letter := raw[0]
	if letter == '0' {
		letter = 'Z'
	}
	if _, ok := schemes[letter]; !ok {
		f.fail(codeScheme)
		return 'Z'
	}
	return letter
}

// keyType reads a three-character key type, or FFF for a key block.
func (f *fields) keyType() string {
	t := f.text(3)
	if f.code != "" {
		return ""
	}
	if t == blockType {
		return t
	}
	if _, ok := placeOf(t); !ok {
		f.fail(codeKeyType)
	}
	return t
}

// factors reads levels times size bytes in hex.
func (f *fields) factors(levels, size int) [][]byte {
	var list [][]byte
	for range levels {
		list = append(list, f.hex(size))
	}
	return list
}

// end checks that nothing but a trailer is left and returns it, with its mark.
func (f *fields) end() []byte {
	rest := f.buf[f.pos:]
	if f.code == "" && len(rest) > 0 && (rest[0] != trailerMark || len(rest) > 1+maxTrailer) {
		f.fail(codeInput)
	}
	return rest
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isHexLetter(c byte) bool { return c >= 'A' && c <= 'F' || c >= 'a' && c <= 'f' }
