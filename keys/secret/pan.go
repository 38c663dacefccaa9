package secret

import (
	"fmt"
	"log/slog"
	"strings"
)

// Limits of a primary account number in digits (ISO/IEC 7812-1: at most 19; the shortest that may show its ends has 13).
const (
	maxPANDigits      = 19
	minPANDigits      = 8
	minMaskablePAN    = 13
	shownPANPrefixLen = 6
	shownPANSuffixLen = 4
)

// PAN is a full card number (8 to 19 digits). It prints masked: first six and last four digits, all others as '*'. The zero
// value is "no card number".
type PAN struct {
	digits Bytes
}

// ParsePAN checks that s is 8 to 19 decimal digits. The error does not show the value.
func ParsePAN(s string) (PAN, error) {
	if len(s) < minPANDigits || len(s) > maxPANDigits {
		return PAN{}, fmt.Errorf("card number has %d digits, want %d to %d", len(s), minPANDigits, maxPANDigits)
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return PAN{}, fmt.Errorf("card number has a character at position %d that is not a digit", i+1)
		}
	}
	return PAN{digits: NewString(s)}, nil
}

// IsZero says that there is no card number.
func (p PAN) IsZero() bool { return p.digits.IsZero() }

// Reveal returns all digits: for a wire codec, a PIN block or sealing, nothing else.
func (p PAN) Reveal() string { return string(p.digits.Reveal()) }

// Equal compares in constant time for equal lengths.
func (p PAN) Equal(other PAN) bool { return p.digits.Equal(other.digits) }

// Masked shows first six and last four digits; a number of fewer than 13 digits is hidden whole. No number shows as "".
func (p PAN) Masked() string { return MaskPAN(p.Reveal()) }

// String implements fmt.Stringer with the masked form.
func (p PAN) String() string { return p.Masked() }

// GoString implements fmt.GoStringer with the masked form.
func (p PAN) GoString() string { return p.Masked() }

// Format implements fmt.Formatter, so that every verb gives the masked form.
func (p PAN) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(p.Masked())) }

// MarshalJSON gives the masked form.
func (p PAN) MarshalJSON() ([]byte, error) { return []byte(`"` + p.Masked() + `"`), nil }

// MarshalText gives the masked form.
func (p PAN) MarshalText() ([]byte, error) { return []byte(p.Masked()), nil }

// LogValue implements slog.LogValuer with the masked form.
func (p PAN) LogValue() slog.Value { return slog.StringValue(p.Masked()) }

// MaskPAN masks text that is meant to be a card number. Anything that is not 13 to 19 digits is hidden whole, so that
// a wrong field can never slip through unmasked.
func MaskPAN(s string) string {
	if s == "" {
		return ""
	}
	if len(s) < minMaskablePAN || len(s) > maxPANDigits {
		return hiddenText
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return hiddenText
		}
	}
	hidden := len(s) - shownPANPrefixLen - shownPANSuffixLen
	return s[:shownPANPrefixLen] + strings.Repeat("*", hidden) + s[len(s)-shownPANSuffixLen:]
}

var (
	_ fmt.Formatter  = PAN{}
	_ slog.LogValuer = PAN{}
)
