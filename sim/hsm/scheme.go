package hsm

import "crypto/cipher"

// scheme says how one letter in front of a key is to be read (docs/hsm-sim.md §2).
type scheme struct {
	alg      algorithm
	size     int    // Key bytes.
	variants []byte // XOR value per 8-byte part for the variant schemes, nil for plain ECB.
}

// Scheme letters and variant bytes: facts/hsm.md §2.2 and, for R, §1.7.3.
var schemes = map[byte]scheme{
	'Z': {algDES, 8, nil},
	'U': {algDES, 16, []byte{0xA6, 0x5A}},
	'X': {algDES, 16, nil},
	'T': {algDES, 24, []byte{0x6A, 0xDE, 0x2B}},
	'Y': {algDES, 24, nil},
	'R': {algSM4, 16, nil},
}

// wrapper enciphers keys: the LMK pair of a key type, or a ZMK or TMK.
type wrapper interface {
	// plain is the cipher for the schemes without variants.
	plain() cipher.Block
	// variant is the cipher with the first byte of its second key half XORed.
	variant(xor byte) cipher.Block
}

// sealKey enciphers a clear key of the scheme's length.
func sealKey(w wrapper, s scheme, clear []byte) []byte {
	if s.variants == nil {
		return ecbEncrypt(w.plain(), clear)
	}
	out := make([]byte, len(clear))
	for i, xor := range s.variants {
		w.variant(xor).Encrypt(out[i*8:i*8+8], clear[i*8:i*8+8])
	}
	return out
}

// openKey is the inverse of sealKey.
func openKey(w wrapper, s scheme, sealed []byte) []byte {
	if s.variants == nil {
		return ecbDecrypt(w.plain(), sealed)
	}
	out := make([]byte, len(sealed))
	for i, xor := range s.variants {
		w.variant(xor).Decrypt(out[i*8:i*8+8], sealed[i*8:i*8+8])
	}
	return out
}

// kek is a ZMK or TMK used as a wrapper.
type kek struct{ *key }

var _ wrapper = kek{}

func (w kek) plain() cipher.Block { return w.block }

// variant treats a single-length key as a double one with equal halves, so that the rule has a second half to change.
func (w kek) variant(xor byte) cipher.Block {
	long := append([]byte(nil), w.clear...)
	if len(long) == 8 {
		long = append(long, long...)
	}
	long[8] ^= xor
	return desBlock(long)
}

// exportUnder enciphers a key for the outside. It refuses what docs/hsm-sim.md §2 forbids: another algorithm, or a single
// length key that would carry a longer one.
func exportUnder(k *key, letter byte, clear *key) ([]byte, errorCode) {
	s := schemes[letter]
	if s.alg != k.alg || s.alg != clear.alg || s.size != len(clear.clear) || len(k.clear) < min(16, s.size) {
		return nil, codeLength
	}
	return sealKey(kek{k}, s, clear.clear), codeOK
}

// importUnder deciphers a key from the outside.
func importUnder(k *key, raw rawKey) (*key, errorCode) {
	s := schemes[raw.letter]
	if s.alg != k.alg {
		return nil, codeLength
	}
	return newKey(s.alg, openKey(kek{k}, s, raw.sealed)), codeOK
}

// appendKey writes a key field; a single-length key has no letter.
func appendKey(out []byte, letter byte, sealed []byte) []byte {
	if letter != 'Z' {
		out = append(out, letter)
	}
	return append(out, upperHex(sealed)...)
}
