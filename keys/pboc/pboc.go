// Package pboc derives card keys as the PBOC and PSAM specifications do: the child key is the parent's encryption of an
// 8-byte factor and of its complement, level by level (facts/psam.md §1.1 and §1.2).
//
// In service this happens inside the HSM (command.Diversifier). This package is the reference for tests, tools and the
// key ceremony of dev mode. No parity is adjusted, as in all PSAM code known to us.
package pboc

import (
	"crypto/cipher"
	"crypto/des" // The PBOC specification prescribes triple DES.
	"errors"
	"fmt"

	"github.com/emmansun/gmsm/sm4"

	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
)

const (
	keyLen       = 16 // every key of the scheme
	factorLen    = 8  // one level
	maxLevels    = 8  // the most that a host command takes (facts/hsm.md §1.7.3)
	factorDigits = 2 * factorLen
	maxPSAMDigit = 20 // the card holds 10 BCD bytes (facts/psam.md §2.2)
)

// Derive gives the child key of root, one level for each factor in the order given. TDES: 3DES(parent, F) followed by
// 3DES(parent, ~F). SM4: one block F followed by ~F. Root has 16 bytes; 1 to 8 factors.
func Derive(algorithm keys.Algorithm, root secret.Key, factors ...[8]byte) (secret.Key, error) {
	if len(factors) == 0 || len(factors) > maxLevels {
		return secret.Key{}, fmt.Errorf("derive key: %d factors, want 1 to %d", len(factors), maxLevels)
	}
	key := root
	for level, factor := range factors {
		child, err := deriveLevel(algorithm, key, factor)
		if level > 0 {
			key.Wipe() // only the caller's root may live on
		}
		if err != nil {
			return secret.Key{}, fmt.Errorf("derive key: %w", err)
		}
		key = child
	}
	return key, nil
}

func deriveLevel(algorithm keys.Algorithm, parent secret.Key, factor [8]byte) (secret.Key, error) {
	var data [keyLen]byte
	copy(data[:], factor[:])
	for i, b := range factor {
		data[factorLen+i] = ^b
	}
	return encryptBlocks(algorithm, parent, data[:])
}

// SessionKey gives the process key of a debit/credit application: the key's encryption of six zero bytes and the transaction
// counter, then of six zero bytes and the counter's complement (facts/psam.md §1.1; SM4: both in one block).
func SessionKey(algorithm keys.Algorithm, card secret.Key, counter [2]byte) (secret.Key, error) {
	data := [keyLen]byte{6: counter[0], 7: counter[1], 14: ^counter[0], 15: ^counter[1]}
	key, err := encryptBlocks(algorithm, card, data[:])
	if err != nil {
		return secret.Key{}, fmt.Errorf("session key: %w", err)
	}
	return key, nil
}

// PurseSessionKey gives the 8-byte process key of an electronic purse: 3DES of the 8-byte input (random 4, offline counter
// 2, low two bytes of the terminal sequence; facts/psam.md §1.1).
func PurseSessionKey(card secret.Key, input [8]byte) (secret.Key, error) {
	key, err := encryptBlocks(keys.TDES, card, input[:])
	if err != nil {
		return secret.Key{}, fmt.Errorf("purse session key: %w", err)
	}
	return key, nil
}

// FactorOf gives the diversification factor of a PSAM card: the rightmost 16 digits of its number as 8 BCD bytes. The number
// has 16 to 20 digits.
func FactorOf(psamNo string) ([8]byte, error) {
	var factor [8]byte
	if len(psamNo) < factorDigits || len(psamNo) > maxPSAMDigit {
		return factor, fmt.Errorf("PSAM number has %d characters, want %d to %d digits", len(psamNo), factorDigits, maxPSAMDigit)
	}
	for i := range len(psamNo) {
		if psamNo[i] < '0' || psamNo[i] > '9' {
			return factor, fmt.Errorf("PSAM number has a character at position %d that is not a digit", i+1)
		}
	}
	right := psamNo[len(psamNo)-factorDigits:]
	for i := range factor {
		factor[i] = (right[2*i]-'0')<<4 | (right[2*i+1] - '0')
	}
	return factor, nil
}

// encryptBlocks enciphers whole blocks in place, each for itself, and takes the result as a key.
func encryptBlocks(algorithm keys.Algorithm, key secret.Key, data []byte) (secret.Key, error) {
	block, err := newBlock(algorithm, key)
	if err != nil {
		return secret.Key{}, err
	}
	size := block.BlockSize()
	for i := 0; i+size <= len(data); i += size {
		block.Encrypt(data[i:i+size], data[i:i+size])
	}
	out := secret.New(data)
	clear(data)
	return out, nil
}

var errKeyLength = errors.New("the parent key must have 16 bytes")

func newBlock(algorithm keys.Algorithm, key secret.Key) (cipher.Block, error) {
	raw := key.Reveal()
	if len(raw) != keyLen {
		return nil, fmt.Errorf("%w, this one has %d", errKeyLength, len(raw))
	}
	switch algorithm {
	case keys.TDES:
		triple := append(append(make([]byte, 0, 24), raw...), raw[:8]...)
		defer clear(triple)
		return des.NewTripleDESCipher(triple)
	case keys.SM4:
		return sm4.NewCipher(raw)
	case keys.DES, keys.AES:
	}
	return nil, fmt.Errorf("the scheme knows TDES and SM4, not %s", algorithm)
}
