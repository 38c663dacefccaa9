package exchangelog

import (
	"strconv"
	"time"
)

// A line is a JSON object with its keys always in this order, nothing escaped, and ends with a line feed:
//
//	{"at":"2026-03-01T08:00:00.000123Z","serial":"posp-1.mia4k2p39f2.1042","group":"online","member":"hsm1","channel":3,"command":"CA",
//	"for":"translate_pin","sent":96,"received":27,"took_us":812,"result":"00"}
//
// A gap is {"at":"…","gap":"disk","group":"online","from":"…","lost":17}, with at as the time when the journal went on.
const (
	timeLayout = "2006-01-02T15:04:05.000000Z"

	// maxLine holds the longest line; a test keeps it true.
	maxLine = 512
	// maxName bounds the names of members and groups, which have 32 at most.
	maxName = 32
	// maxCode is the longest text that may have digits: command and error codes have two characters (facts/hsm.md §1.1), a card's check
	// number has three, a PIN four at least, a card number or a key many more.
	maxCode = 2
	// maxWord is the longest text of letters, hyphens and underscores, for example CKR_USER_ANOTHER_ALREADY_LOGGED_IN. A key or a PIN
	// block in hexadecimal has digits.
	maxWord = 40
	// maxNumber bounds lengths and channels.
	maxNumber = 999_999_999
	// maxMicros bounds durations.
	maxMicros = int64(1<<63-1) / 1000

	// unfit stands for a text that a line must not have.
	unfit = "?"
)

// isNameChar says that c may stand in the name of an instance, a group or a member.
func isNameChar(c byte) bool {
	return isLetter(c) || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.'
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func isName[T string | []byte](s T, longest int) bool {
	if len(s) == 0 || len(s) > longest {
		return false
	}
	for i := range len(s) {
		if !isNameChar(s[i]) {
			return false
		}
	}
	return true
}

// isCode says that s is nothing, a short printable code, or a longer word without digits, so that no key, PIN or card number passes.
func isCode[T string | []byte](s T) bool {
	if len(s) > maxWord {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if isLetter(c) || c == '-' || c == '_' {
			continue
		}
		if len(s) > maxCode || c <= ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// appendExchange writes the line of e. It counts in unfit how many texts had to be left out.
func appendExchange(b []byte, e *Exchange) (line []byte, unfitTexts int) {
	name := func(s string) string {
		if isName(s, maxName) {
			return s
		}
		unfitTexts++
		return unfit
	}
	code := func(s string) string {
		if isCode(s) {
			return s
		}
		unfitTexts++
		return unfit
	}
	b = append(b, `{"at":"`...)
	b = appendTime(b, e.At)
	b = append(b, `","serial":"`...)
	b = e.Serial.appendTo(b)
	b = append(b, `","group":"`...)
	b = append(b, name(e.Group)...)
	b = append(b, `","member":"`...)
	b = append(b, name(e.Member)...)
	b = append(b, `","channel":`...)
	b = appendNumber(b, e.Channel)
	b = append(b, `,"command":"`...)
	b = append(b, code(e.Command)...)
	b = append(b, `","for":"`...)
	b = append(b, code(e.For)...)
	b = append(b, `","sent":`...)
	b = appendNumber(b, e.Sent)
	b = append(b, `,"received":`...)
	b = appendNumber(b, e.Received)
	b = append(b, `,"took_us":`...)
	b = strconv.AppendInt(b, max(0, e.Took.Microseconds()), 10)
	b = append(b, `,"result":"`...)
	b = append(b, code(e.Result)...)
	return append(b, "\"}\n"...), unfitTexts
}

func appendGap(b []byte, g Gap) []byte {
	b = append(b, `{"at":"`...)
	b = appendTime(b, g.To)
	b = append(b, `","gap":"`...)
	b = append(b, g.Why...)
	b = append(b, `","group":"`...)
	if isName(g.Group, maxName) {
		b = append(b, g.Group...)
	} else {
		b = append(b, unfit...)
	}
	b = append(b, `","from":"`...)
	b = appendTime(b, g.From)
	b = append(b, `","lost":`...)
	b = strconv.AppendUint(b, g.Lost, 10)
	return append(b, "}\n"...)
}

func appendNumber(b []byte, n int) []byte {
	return strconv.AppendInt(b, int64(min(max(n, 0), maxNumber)), 10)
}

// appendTime writes UTC with microseconds. It is twice as fast as AppendFormat, and the largest part of a line.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	b = appendDigits(b, min(max(year, 0), 9999), 4)
	b = append(b, '-')
	b = appendDigits(b, int(month), 2)
	b = append(b, '-')
	b = appendDigits(b, day, 2)
	b = append(b, 'T')
	b = appendDigits(b, hour, 2)
	b = append(b, ':')
	b = appendDigits(b, minute, 2)
	b = append(b, ':')
	b = appendDigits(b, second, 2)
	b = append(b, '.')
	b = appendDigits(b, t.Nanosecond()/int(time.Microsecond), 6)
	return append(b, 'Z')
}

// appendDigits writes n with leading zeros.
func appendDigits(b []byte, n, width int) []byte {
	at := len(b)
	b = append(b, "000000"[:width]...)
	for i := at + width - 1; i >= at; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
	return b
}
