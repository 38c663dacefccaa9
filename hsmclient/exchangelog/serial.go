package exchangelog

import (
	"crypto/rand"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// maxInstance keeps serial numbers short enough for a line on a screen.
	maxInstance = 40
	// randomChars makes two starts differ even when the clock was set back between them.
	randomChars = 3
	// maxStart is the length of the start: milliseconds since 1970 in base 36 have nine digits at most for the next 3000 years.
	maxStart = 9 + randomChars
	// maxSerial is the longest serial number: instance, start, and a counter of 64 bits.
	maxSerial = maxInstance + 1 + maxStart + 1 + 20

	serialAlphabet = "0123456789abcdefghijklmnopqrstuv" // of the random part; 32 characters, so that every one is as likely
)

// Serial numbers one exchange uniquely across the cluster. Its text is the instance, the start of the process and a counter, for
// example posp-1.mia4k2p39f2.1042. The zero value means none.
type Serial struct {
	origin string // shared by all serials of a process, so that a new one costs no memory
	count  uint64
}

// Serials gives serial numbers. It is safe for concurrent use.
type Serials struct {
	origin string
	count  atomic.Uint64
}

// NewSerials makes the source of one cluster in one process. Characters of instance that a serial number cannot have become hyphens.
func NewSerials(instance string, start time.Time) *Serials {
	clean := []byte(instance[:min(len(instance), maxInstance)])
	for i, c := range clean {
		if !isNameChar(c) {
			clean[i] = '-'
		}
	}
	if len(clean) == 0 {
		clean = []byte{'-'}
	}
	origin := append(clean, '.')
	origin = strconv.AppendInt(origin, max(0, start.UnixMilli()), 36)
	var random [randomChars]byte
	_, _ = rand.Read(random[:]) // never fails (package crypto/rand)
	for _, r := range random {
		origin = append(origin, serialAlphabet[int(r)%len(serialAlphabet)])
	}
	return &Serials{origin: string(origin)}
}

// Next gives the next serial number; the counter begins with 1.
func (s *Serials) Next() Serial { return Serial{origin: s.origin, count: s.count.Add(1)} }

// Last is the counter of the last serial number given, 0 before the first.
func (s *Serials) Last() uint64 { return s.count.Load() }

// IsZero says that there is no serial number.
func (s Serial) IsZero() bool { return s == Serial{} }

// String gives the text, "" for none.
func (s Serial) String() string { return string(s.appendTo(nil)) }

func (s Serial) appendTo(b []byte) []byte {
	if s.origin == "" {
		return b
	}
	b = append(b, s.origin...)
	b = append(b, '.')
	return strconv.AppendUint(b, s.count, 10)
}

// ParseSerial reads the text of a serial number.
func ParseSerial(text string) (Serial, error) {
	origin, digits, start := splitSerial(text)
	count, ok := parseCount(digits)
	if !ok || start == "" || len(start) > maxStart || len(origin) > maxInstance+1+maxStart || !isName(origin, len(origin)) {
		return Serial{}, errors.New("not a serial number: it looks like posp-1.mia4k2p39f2.1042")
	}
	return Serial{origin: origin, count: count}, nil
}

// splitSerial gives what stands before the counter, the counter, and the start of the process.
func splitSerial(text string) (origin, digits, start string) {
	dot := strings.LastIndexByte(text, '.')
	if dot < 0 {
		return "", "", ""
	}
	origin, digits = text[:dot], text[dot+1:]
	if dot = strings.LastIndexByte(origin, '.'); dot > 0 {
		start = origin[dot+1:]
	}
	return origin, digits, start
}

// parseCount reads an unsigned number as strconv writes it: no sign, no leading zero.
func parseCount(digits string) (uint64, bool) {
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil && (digits[0] != '0' || len(digits) == 1)
}
