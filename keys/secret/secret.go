// Package secret holds the types for values that must never be printed: clear keys, PIN blocks, track data and full
// card numbers.
//
// Every type prints as "***" under every fmt verb, in JSON, as text and in slog, also when it is an unexported field of
// another struct: the bytes sit inside a closure, which fmt can only print as an address. A full card number prints
// masked (first six, last four digits) because operators search by it; everything shorter than 13 digits is hidden whole, so
// that the mask fails closed. Wiping is best effort: the garbage collector may have moved or copied a value.
package secret

import (
	"crypto/subtle"
	"fmt"
	"log/slog"
)

// hiddenText is what a secret shows instead of its value.
const hiddenText = "***"

// Bytes is a secret byte string: a clear key, a PIN block, or track data. The zero value is empty.
type Bytes struct {
	// A closure and not a pointer: for a verb that does not fit, fmt follows one pointer even inside an unexported field.
	reveal func() []byte
}

// Key is a clear key. Production code outside the HSM holds one only for sealing data at rest.
type Key = Bytes

// PINBlock is a PIN block, enciphered or not; neither belongs into a log.
type PINBlock = Bytes

// Track is magnetic stripe data (track 2 or 3, digits with = or D as separator), enciphered or clear.
type Track = Bytes

// New takes a copy of b. The caller may wipe its own copy afterwards.
func New(b []byte) Bytes {
	if len(b) == 0 {
		return Bytes{}
	}
	c := append([]byte(nil), b...)
	return Bytes{reveal: func() []byte { return c }}
}

// NewString is New for text.
func NewString(s string) Bytes { return New([]byte(s)) }

// Len is the number of bytes.
func (s Bytes) Len() int {
	return len(s.Reveal())
}

// IsZero says that there is no value.
func (s Bytes) IsZero() bool { return s.Len() == 0 }

// Reveal returns the value itself, not a copy: for handing to a cipher or a wire codec, nothing else. The name is
// chosen so that every place where a secret leaves its type can be found by searching for it.
func (s Bytes) Reveal() []byte {
	if s.reveal == nil {
		return nil
	}
	return s.reveal()
}

// Equal compares in constant time for equal lengths.
func (s Bytes) Equal(other Bytes) bool {
	return subtle.ConstantTimeCompare(s.Reveal(), other.Reveal()) == 1
}

// Wipe overwrites the value with zeros and empties it. Other copies of the same Bytes value see zeros too.
func (s Bytes) Wipe() {
	clear(s.Reveal())
}

// String implements fmt.Stringer; it never shows the value.
func (s Bytes) String() string { return hiddenText }

// GoString implements fmt.GoStringer; it never shows the value.
func (s Bytes) GoString() string { return hiddenText }

// Format implements fmt.Formatter, so that no verb (%x, %d, %q …) reaches the bytes.
func (s Bytes) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(hiddenText)) }

// MarshalJSON never shows the value.
func (s Bytes) MarshalJSON() ([]byte, error) { return []byte(`"` + hiddenText + `"`), nil }

// MarshalText never shows the value; it serves YAML and other encoders.
func (s Bytes) MarshalText() ([]byte, error) { return []byte(hiddenText), nil }

// LogValue implements slog.LogValuer.
func (s Bytes) LogValue() slog.Value { return slog.StringValue(hiddenText) }

var (
	_ fmt.Formatter  = Bytes{}
	_ slog.LogValuer = Bytes{}
)
