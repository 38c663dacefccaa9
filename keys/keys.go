// Package keys holds the words for keys that live in an HSM: what a key is for, its algorithm, its check value, its state,
// and the form in which everybody outside the HSM holds it, a cryptogram under a local master key (LMK).
//
// Nothing in this package ever sees a clear key. Derivation schemes are sub-packages (pboc), check values are computed in
// kcv, and the working keys of the terminals that are signed on are kept by workset.
package keys

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// Algorithm is the cipher that a key is made for.
type Algorithm uint8

// The algorithms. DES is only for old terminals and for the single-length MAK of the UnionPay dialect
// (facts/unionpay.md §3, "Keys in field 62").
const (
	DES Algorithm = iota + 1
	TDES
	AES
	SM4
)

var algorithmNames = map[Algorithm]string{DES: "des", TDES: "tdes", AES: "aes", SM4: "sm4"}

// String gives the name used in the database, the configuration and the APIs.
func (a Algorithm) String() string { return nameOf(algorithmNames, a) }

// ParseAlgorithm is the inverse of String.
func ParseAlgorithm(s string) (Algorithm, error) {
	return parseName(algorithmNames, s, "key algorithm")
}

// MarshalText implements encoding.TextMarshaler.
func (a Algorithm) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *Algorithm) UnmarshalText(b []byte) (err error) {
	*a, err = ParseAlgorithm(string(b))
	return err
}

// Usage is what a key may be used for. The HSM enforces it by its key types (facts/hsm.md §2.3); ours names the intent.
type Usage uint8

// The usages of the first dialects.
const (
	// Root is an issuing root key: derive only, because diversification is itself an encryption (P1).
	Root Usage = iota + 1
	// CardControl is a control key of a PSAM card (P3): it protects the writing of other keys.
	CardControl
	// TerminalMaster (TMK) is the card's master key, under which working keys travel (P6).
	TerminalMaster
	// PINKey (PIK), MACKey (MAK) and TrackKey (TDK) are the working keys of a terminal.
	PINKey
	MACKey
	TrackKey
	// ZonePIN (ZPK), ZoneMAC (ZAK) and ZoneMaster (ZMK) are shared with a downstream host.
	ZonePIN
	ZoneMAC
	ZoneMaster
	// Seal is a MAC key from which the HSM computes the keys that seal data at rest.
	Seal
)

var usageNames = map[Usage]string{
	Root: "root", CardControl: "card-control", TerminalMaster: "tmk", PINKey: "pik", MACKey: "mak", TrackKey: "tdk",
	ZonePIN: "zpk", ZoneMAC: "zak", ZoneMaster: "zmk", Seal: "seal",
}

// String gives the name used in the database, the configuration and the APIs.
func (u Usage) String() string { return nameOf(usageNames, u) }

// ParseUsage is the inverse of String.
func ParseUsage(s string) (Usage, error) { return parseName(usageNames, s, "key usage") }

// MarshalText implements encoding.TextMarshaler.
func (u Usage) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (u *Usage) UnmarshalText(b []byte) (err error) {
	*u, err = ParseUsage(string(b))
	return err
}

// KCV is a key check value: the leading bytes of a zero block enciphered under the key, as upper-case hex text of 6 to 32
// characters. Networks print 3, 4 or 8 bytes (facts/unionpay.md §3), so two values agree when the shorter is the start of
// the longer.
type KCV string

// minKCVDigits is the shortest check value that says anything (3 bytes, the usual printed form).
const minKCVDigits = 6

// ParseKCV checks hex and length.
func ParseKCV(s string) (KCV, error) {
	up := strings.ToUpper(strings.TrimSpace(s))
	if _, err := hex.DecodeString(up); err != nil || len(up) < minKCVDigits || len(up) > 32 {
		return "", fmt.Errorf("key check value %q is not 6 to 32 hex digits", s)
	}
	return KCV(up), nil
}

// Matches says that both values can belong to the same key. An empty or too short value matches nothing.
func (k KCV) Matches(other KCV) bool {
	n := min(len(k), len(other))
	return n >= minKCVDigits && strings.EqualFold(string(k[:n]), string(other[:n]))
}

// Bytes returns the first n bytes, or nil when the value is shorter.
func (k KCV) Bytes(n int) []byte {
	if len(k) < 2*n {
		return nil
	}
	b, err := hex.DecodeString(string(k[:2*n]))
	if err != nil {
		return nil
	}
	return b
}

// Wrapped is a key as the outside world holds it. Cryptogram is the text that the HSM's host commands take (scheme letter
// and hex, or a key block); it is worthless without the HSM and the LMK of its Domain (C7), but is still not logged.
type Wrapped struct {
	Usage      Usage
	Algorithm  Algorithm
	Version    int
	Domain     string
	Cryptogram string
	KCV        KCV
}

// IsZero says that there is no key.
func (w Wrapped) IsZero() bool { return w.Cryptogram == "" }

// String names the key by usage, algorithm, version, domain and check value; the cryptogram is left out.
func (w Wrapped) String() string {
	return fmt.Sprintf("%s/%s v%d kcv %s in %s", w.Usage, w.Algorithm, w.Version, w.KCV, w.Domain)
}

// GoString is String, so that %#v shows no cryptogram either.
func (w Wrapped) GoString() string { return w.String() }

func nameOf[T comparable](names map[T]string, v T) string {
	if s, ok := names[v]; ok {
		return s
	}
	return "unknown"
}

func parseName[T comparable](names map[T]string, s, what string) (T, error) {
	for v, name := range names {
		if name == s {
			return v, nil
		}
	}
	var none T
	return none, fmt.Errorf("%s %q is not known", what, s)
}
