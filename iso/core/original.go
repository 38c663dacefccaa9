package core

import (
	"fmt"
	"strings"

	"github.com/keyward/keyward/iso"
)

// acquirerDigits is the length of each institution number in field 90.
const acquirerDigits = 11

// Original names an earlier message in field 90 of its reversal (docs/dialect-core.md §3).
type Original struct {
	MTI          string // n4.
	Trace        string // n6: its field 11.
	Transmission string // n10 MMDDhhmmss: its field 7.
	Acquirer     string // n..11: its field 32, without leading zeros.
}

// OriginalOf names m.
func OriginalOf(m *iso.Message) Original {
	return Original{
		MTI: m.MTI(), Trace: m.Text(iso.Trace), Transmission: m.Text(iso.TransmissionTime),
		Acquirer: strings.TrimLeft(m.Text(iso.Acquirer), "0"),
	}
}

// Encode writes the 42 digits of field 90; the forwarder is all zeros.
func (o Original) Encode() (string, error) {
	if len(o.MTI) != 4 || len(o.Trace) != 6 || len(o.Transmission) != 10 || len(o.Acquirer) > acquirerDigits {
		return "", fmt.Errorf("original data for field 90: message type, trace, transmission time or acquirer has the wrong length")
	}
	s := o.MTI + o.Trace + o.Transmission + strings.Repeat("0", acquirerDigits-len(o.Acquirer)) + o.Acquirer + strings.Repeat("0", acquirerDigits)
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return "", fmt.Errorf("original data for field 90: position %d is not a digit", i+1)
		}
	}
	return s, nil
}

// ParseOriginal reads field 90.
func ParseOriginal(s string) (Original, error) {
	if len(s) != 42 {
		return Original{}, fmt.Errorf("field 90 has %d digits, want 42", len(s))
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return Original{}, fmt.Errorf("field 90: position %d is not a digit", i+1)
		}
	}
	return Original{MTI: s[:4], Trace: s[4:10], Transmission: s[10:20], Acquirer: strings.TrimLeft(s[20:31], "0")}, nil
}
