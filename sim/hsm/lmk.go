package hsm

import (
	"crypto/cipher"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
)

const (
	lmkPairs = 20 // Pairs 00-01 to 38-39.

	// maxCachedKeys bounds the opened keys kept with their key schedules. A sign-on makes three keys, so this covers the
	// working set of some thousand terminals; when it is full the cache starts afresh.
	maxCachedKeys = 8192

	// testLMKCheck is what devices with the public test LMK answer to NC (facts/hsm.md §1.2). How real devices compute it
	// is not public, so it is a constant.
	testLMKCheck = "2686047444912422"
)

// testLMK is the public variant test LMK (facts/hsm.md §2.1). A pair of two-digit values means that byte eight times.
var testLMK = [lmkPairs]string{
	"01010101010101017902CD1FD36EF8BA", "20/31", "40/51", "61/70", "80/91", "A1/B0", "C1C1010101010101D0D0010101010101",
	"E0E0010101010101F1F1010101010101", "1C587F1C13924FEF0101010101010101", "01/01", "02/04", "07/10", "13/15", "16/19",
	"1A/1C", "23/25", "26/29", "2A/2C", "2F/31", "01/01",
}

// lmk is a set of local master keys with a cache of the keys opened under it.
type lmk struct {
	pairs [lmkPairs][]byte
	check string
	test  bool // The public test LMK.

	mu      sync.RWMutex
	ciphers map[lmkCipherID]cipher.Block // At most pairs × variants × scheme variants, so bounded by its key.
	opened  map[string]*key              // Bounded by maxCachedKeys.
}

type lmkCipherID struct {
	place lmkPlace
	xor   byte
}

// newLMK returns the public test LMK for an empty seed, else the LMK made from the seed (docs/hsm-sim.md §2).
func newLMK(seed string) *lmk {
	l := &lmk{test: seed == "", ciphers: map[lmkCipherID]cipher.Block{}, opened: map[string]*key{}}
	digest := sha256.New()
	digest.Write([]byte("keyward lmk"))
	for i := range l.pairs {
		if seed == "" {
			l.pairs[i] = expandPair(testLMK[i])
		} else {
			sum := sha256.Sum256(fmt.Appendf(nil, "%s:%d", seed, i))
			l.pairs[i] = sum[:16]
			setOddParity(l.pairs[i])
		}
		digest.Write(l.pairs[i])
	}
	l.check = testLMKCheck
	if !l.test {
		l.check = upperHex(digest.Sum(nil)[:8])
	}
	return l
}

// expandPair reads one entry of testLMK.
func expandPair(s string) []byte {
	if left, right, short := strings.Cut(s, "/"); short {
		s = strings.Repeat(left, 8) + strings.Repeat(right, 8)
	}
	pair, err := hex.DecodeString(s)
	if err != nil || len(pair) != 16 {
		panic("hsm: the test LMK table is damaged") // Unreachable: the table is a constant that tests read.
	}
	return pair
}

// lmkWrapper enciphers keys of one type under the LMK.
type lmkWrapper struct {
	lmk   *lmk
	place lmkPlace
}

var _ wrapper = lmkWrapper{}

func (w lmkWrapper) plain() cipher.Block { return w.lmk.cipher(w.place, 0) }

func (w lmkWrapper) variant(xor byte) cipher.Block { return w.lmk.cipher(w.place, xor) }

// cipher returns the 3DES cipher of a pair with the key-type variant on its first byte and the scheme variant on the
// first byte of its right half (facts/hsm.md §2.2).
func (l *lmk) cipher(place lmkPlace, xor byte) cipher.Block {
	id := lmkCipherID{place, xor}
	l.mu.RLock()
	block := l.ciphers[id]
	l.mu.RUnlock()
	if block != nil {
		return block
	}
	pair := append([]byte(nil), l.pairs[place.pair]...)
	pair[0] ^= variantBytes[place.variant]
	pair[8] ^= xor
	block = desBlock(pair)
	l.mu.Lock()
	l.ciphers[id] = block
	l.mu.Unlock()
	return block
}

// open deciphers a key of a known type. It does not judge the parity.
func (l *lmk) open(keyType string, raw rawKey) (*key, errorCode) {
	place, ok := placeOf(keyType)
	if !ok {
		return nil, codeKeyType
	}
	var id [3 + 1 + maxKeyBytes]byte
	name := append(append(append(id[:0], keyType...), raw.letter), raw.sealed...)
	l.mu.RLock()
	k := l.opened[string(name)]
	l.mu.RUnlock()
	if k != nil {
		return k, codeOK
	}
	s := schemes[raw.letter]
	k = newKey(s.alg, openKey(lmkWrapper{l, place}, s, raw.sealed))
	l.mu.Lock()
	if len(l.opened) >= maxCachedKeys {
		clear(l.opened)
	}
	l.opened[string(name)] = k
	l.mu.Unlock()
	return k, codeOK
}

// seal enciphers a key of a known type under the LMK.
func (l *lmk) seal(keyType string, letter byte, k *key) ([]byte, errorCode) {
	place, ok := placeOf(keyType)
	if !ok {
		return nil, codeKeyType
	}
	s := schemes[letter]
	if s.alg != k.alg || s.size != len(k.clear) {
		return nil, codeLength
	}
	return sealKey(lmkWrapper{l, place}, s, k.clear), codeOK
}

// randomKey makes a key of the scheme's algorithm and length.
func randomKey(letter byte) *key { return randomOf(schemes[letter].alg, schemes[letter].size) }
