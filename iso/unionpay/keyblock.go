package unionpay

import (
	"errors"
	"fmt"

	"github.com/keyward/keyward/keys/secret"
)

const (
	kcvLen    = 4
	shortKCV  = 3
	singleLen = 8  // Cryptogram of a single-length key.
	doubleLen = 16 // Cryptogram of a double-length key, or of an SM4 key.

	block24 = 2 * (singleLen + kcvLen)   // PIK 8 + KCV, MAK 8 + KCV: answer to 001.
	block40 = 2 * (doubleLen + kcvLen)   // PIK 16 + KCV, MAK 16 (or 8 and 8 zero bytes) + KCV: answer to 003.
	block57 = 3 * (doubleLen + shortKCV) // SM4 keys with short check values.
	block60 = 3 * (doubleLen + kcvLen)   // The same and TDK 16 + KCV: answer to 004, and to an SM4 sign-on.
)

// WorkKey is one working key as the sign-on answer carries it. An absent key is the zero value.
type WorkKey struct {
	// Cipher is the key enciphered under the terminal's master key, block by block: 8 or 16 bytes.
	Cipher secret.Bytes
	// KCV is the check value: the first 4 bytes of a zero block under the clear key.
	KCV [kcvLen]byte
}

// KeyBlock is field 62 of a sign-on answer (facts/unionpay.md §3 "Keys in field 62").
type KeyBlock struct {
	PIK WorkKey // PIN key.
	MAK WorkKey // MAC key: single-length even where the others are double-length, unless its slot is filled.
	TDK WorkKey // Track key; absent in the short layouts.
}

// EncodeShort writes three keys of 16 bytes with check values of 3 bytes: the 57 bytes that one host answers to an SM4 sign-on
// (facts/unionpay.md §3, "57 SM4").
func (b KeyBlock) EncodeShort() ([]byte, error) {
	long, err := b.Encode()
	if err != nil {
		return nil, err
	}
	if len(long) != block60 || b.MAK.Cipher.Len() != doubleLen {
		return nil, fmt.Errorf("%w: check values of 3 bytes go with three keys of %d bytes", ErrKeyBlock, doubleLen)
	}
	out := make([]byte, 0, block57)
	for ; len(long) > 0; long = long[doubleLen+kcvLen:] {
		out = append(out, long[:doubleLen+shortKCV]...)
	}
	return out, nil
}

// ErrKeyBlock is the class of refusals of a key block.
var ErrKeyBlock = errors.New("key block in field 62")

// Encode writes the layout that the lengths of the keys ask for: 24 bytes for single-length PIK and MAK, 40 for double-length, 60 with a
// TDK. A single-length MAK in the longer layouts is followed by eight zero bytes, inside its 16-byte slot.
func (b KeyBlock) Encode() ([]byte, error) {
	if b.PIK.Cipher.Len() == singleLen {
		if b.MAK.Cipher.Len() != singleLen || !b.TDK.Cipher.IsZero() {
			return nil, fmt.Errorf("%w: a single-length PIK goes with a single-length MAK and no TDK", ErrKeyBlock)
		}
		return appendKey(appendKey(make([]byte, 0, block24), b.PIK, singleLen), b.MAK, singleLen), nil
	}
	if b.PIK.Cipher.Len() != doubleLen {
		return nil, fmt.Errorf("%w: PIK has %d bytes, want %d or %d", ErrKeyBlock, b.PIK.Cipher.Len(), singleLen, doubleLen)
	}
	switch b.MAK.Cipher.Len() {
	case singleLen:
	case doubleLen:
		if isZero(b.MAK.Cipher.Reveal()[singleLen:]) {
			// The reader could not tell it from a single-length key.
			return nil, fmt.Errorf("%w: the second half of the MAK's cryptogram is zero: make the key anew", ErrKeyBlock)
		}
	default:
		return nil, fmt.Errorf("%w: MAK has %d bytes, want %d or %d", ErrKeyBlock, b.MAK.Cipher.Len(), singleLen, doubleLen)
	}
	out := appendKey(appendKey(make([]byte, 0, block60), b.PIK, doubleLen), b.MAK, doubleLen)
	switch b.TDK.Cipher.Len() {
	case 0:
		return out, nil
	case doubleLen:
		return appendKey(out, b.TDK, doubleLen), nil
	}
	return nil, fmt.Errorf("%w: TDK has %d bytes, want %d or none", ErrKeyBlock, b.TDK.Cipher.Len(), doubleLen)
}

// ParseKeyBlock reads field 62 of a sign-on answer. The length gives the layout; a MAK whose slot ends in eight zero bytes is
// single-length.
func ParseKeyBlock(data []byte) (KeyBlock, error) {
	var b KeyBlock
	slot := doubleLen
	switch len(data) {
	case block24:
		slot = singleLen
	case block40:
	case block60:
		b.TDK = readKey(data[2*(doubleLen+kcvLen):], doubleLen)
	default:
		return KeyBlock{}, fmt.Errorf("%w: %d bytes, want %d, %d or %d", ErrKeyBlock, len(data), block24, block40, block60)
	}
	b.PIK = readKey(data, slot)
	b.MAK = readKey(data[slot+kcvLen:], slot)
	if cipher := b.MAK.Cipher.Reveal(); slot == doubleLen && isZero(cipher[singleLen:]) {
		b.MAK.Cipher = secret.New(cipher[:singleLen])
	}
	return b, nil
}

// appendKey writes a key into a slot, zero-filled, and its check value.
func appendKey(dst []byte, k WorkKey, slot int) []byte {
	cipher := k.Cipher.Reveal()
	dst = append(dst, cipher...)
	dst = append(dst, make([]byte, slot-len(cipher))...)
	return append(dst, k.KCV[:]...)
}

func readKey(data []byte, slot int) WorkKey {
	return WorkKey{Cipher: secret.New(data[:slot]), KCV: [kcvLen]byte(data[slot : slot+kcvLen])}
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
