package racal

import (
	"encoding/hex"
	"strconv"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/keys"
)

const hexDigits = "0123456789ABCDEF"

func appendHex(dst, data []byte) []byte {
	for _, b := range data {
		dst = append(dst, hexDigits[b>>4], hexDigits[b&15])
	}
	return dst
}

// append2H and append4H write a number as upper-case hex digits.
func append2H(dst []byte, n int) []byte { return append(dst, hexDigits[n>>4&15], hexDigits[n&15]) }

func append4H(dst []byte, n int) []byte { return append2H(append2H(dst, n>>8&255), n&255) }

// fields reads an answer from left to right. The first mismatch is kept and every later read gives nothing, so that a
// parser can read all fields and ask end once.
type fields struct {
	command string
	rest    []byte
	err     error
}

// headLen is the response code and the error code at the start of every answer.
const headLen = 4

// open checks response code (the command's letters with the second plus one) and error code. The codes listed in accept
// count as success beside 00.
func open(cmd string, answer []byte, accept ...string) (fields, error) {
	if len(answer) < headLen || answer[0] != cmd[0] || answer[1] != cmd[1]+1 {
		return fields{}, malformed(cmd, "it does not begin with response code %c%c and an error code", cmd[0], cmd[1]+1)
	}
	code, rest := string(answer[2:headLen]), answer[headLen:]
	if code == codeOK {
		return fields{command: cmd, rest: rest}, nil
	}
	if !isCode(code) {
		return fields{}, malformed(cmd, "the error code is not two digits or letters")
	}
	for _, a := range accept {
		if a == code && len(rest) > 0 {
			return fields{command: cmd, rest: rest}, nil
		}
	}
	if len(rest) != 0 {
		return fields{}, malformed(cmd, "%d bytes follow error code %s", len(rest), code)
	}
	return fields{}, &command.Error{Class: classOf(code), Command: cmd, Code: code}
}

func isCode(s string) bool {
	for i := range len(s) {
		if (s[i] < '0' || s[i] > '9') && (s[i] < 'A' || s[i] > 'Z') {
			return false
		}
	}
	return true
}

func (f *fields) fail(format string, args ...any) {
	if f.err == nil {
		f.err = malformed(f.command, format, args...)
	}
	f.rest = nil
}

// take gives the next n bytes, or nil.
func (f *fields) take(n int, what string) []byte {
	if f.err != nil {
		return nil
	}
	if len(f.rest) < n {
		f.fail("%d bytes are left where %s needs %d", len(f.rest), what, n)
		return nil
	}
	part := f.rest[:n]
	f.rest = f.rest[n:]
	return part
}

// hex gives n bytes that stand as 2n hex digits.
func (f *fields) hex(n int, what string) []byte {
	text := f.take(2*n, what)
	if text == nil {
		return nil
	}
	out := make([]byte, n)
	if _, err := hex.Decode(out, text); err != nil {
		f.fail("%s is not hex", what)
		return nil
	}
	return out
}

// hexText gives n hex digits as upper-case text.
func (f *fields) hexText(n int, what string) string {
	text := f.take(n, what)
	for i, c := range text {
		switch {
		case c >= '0' && c <= '9', c >= 'A' && c <= 'F':
		case c >= 'a' && c <= 'f':
			text[i] = c - 'a' + 'A'
		default:
			f.fail("%s is not hex", what)
			return ""
		}
	}
	return string(text)
}

// number gives a number of n digits in the base.
func (f *fields) number(n, base int, what string) int {
	text := f.take(n, what)
	if text == nil {
		return 0
	}
	v, err := strconv.ParseUint(string(text), base, 31)
	if err != nil {
		f.fail("%s is not a number", what)
		return 0
	}
	return int(v)
}

// text gives n printable characters.
func (f *fields) text(n int, what string) string {
	text := f.take(n, what)
	for _, c := range text {
		if c < ' ' || c > '~' {
			f.fail("%s is not printable", what)
			return ""
		}
	}
	return string(text)
}

// kcvDigits is a whole check value, shortKCV the usual printed form.
const (
	kcvDigits = 16
	shortKCV  = 6
)

// checkValue gives a check value at the end of an answer: 6 digits, or 16 on devices that always give all.
func (f *fields) checkValue() keys.KCV {
	n := shortKCV
	if len(f.rest) == kcvDigits {
		n = kcvDigits
	}
	return keys.KCV(f.hexText(n, "the check value"))
}

// block gives a key block with its letter in front; the header tells its length.
func (f *fields) block(letter byte, what string) string {
	if len(f.rest) < 1+blockHeader {
		f.take(1+blockHeader, what)
		return ""
	}
	n, ok := decimal(string(f.rest[2:6]))
	if f.rest[0] != letter || !ok || n < minBlock {
		f.fail("%s is not a key block", what)
		return ""
	}
	text := string(f.take(1+n, what))
	if !isAlnum(text) {
		f.fail("%s has characters that no key block has", what)
		return ""
	}
	return text
}

// key gives a key field of the scheme that was asked for, letter included.
func (f *fields) key(scheme byte, what string) string {
	if scheme == schemeBlock {
		return f.block(scheme, what)
	}
	digits := schemeDigits(scheme)
	if scheme == schemeSingle { // answers never carry the letter (docs/hsm-sim.md §2)
		return f.hexText(digits, what)
	}
	letter := f.take(1, what)
	if letter == nil {
		return ""
	}
	if letter[0] != scheme {
		f.fail("%s is not of the scheme asked for", what)
		return ""
	}
	text := f.hexText(digits, what)
	if f.err != nil {
		return ""
	}
	return string(scheme) + text
}

// end refuses what is left over and gives the first mismatch.
func (f *fields) end() error {
	if f.err == nil && len(f.rest) > 0 {
		f.fail("%d bytes are left over", len(f.rest))
	}
	return f.err
}
