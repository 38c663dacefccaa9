package bank

import (
	"crypto/cipher"
	"crypto/des"
	"crypto/subtle"
	"errors"
	"fmt"
)

const (
	desBlock  = 8  // One DES block.
	doubleKey = 16 // A double length DES key: left half, right half.

	minPINDigits = 4  // ISO 9564-1: a PIN has 4 to 12 digits.
	maxPINDigits = 12 // The same.
)

// errPINBlock says that a decrypted block is not an ISO 9564-1 format 0 block of the card: another key, another PAN or
// another format. It carries nothing of the block.
var errPINBlock = errors.New("PIN block is not ISO format 0 of this card")

// macKey computes the MAC of the dialect, ISO 9797-1 algorithm 3 with single DES ("retail MAC", ANSI X9.19). The ciphers
// of crypto/des hold no state between calls, so one macKey serves all connections.
type macKey struct {
	left, right cipher.Block
}

// newMACKey takes a clear double length key.
func newMACKey(key []byte) (macKey, error) {
	if len(key) != doubleKey {
		return macKey{}, fmt.Errorf("key has %d bytes, need %d", len(key), doubleKey)
	}
	left, err := des.NewCipher(key[:desBlock])
	if err != nil {
		return macKey{}, fmt.Errorf("left half: %w", err)
	}
	right, err := des.NewCipher(key[desBlock:])
	if err != nil {
		return macKey{}, fmt.Errorf("right half: %w", err)
	}
	return macKey{left: left, right: right}, nil
}

// sum is the MAC over data, filled with zeros to a whole block (padding method 1; an empty message is one zero block).
func (k macKey) sum(data []byte) [desBlock]byte {
	var x [desBlock]byte
	for first := true; first || len(data) > 0; first = false {
		n := min(desBlock, len(data))
		subtle.XORBytes(x[:n], x[:n], data[:n])
		k.left.Encrypt(x[:], x[:])
		data = data[n:]
	}
	k.right.Decrypt(x[:], x[:])
	k.left.Encrypt(x[:], x[:])
	return x
}

// verify compares in constant time, so that the time of a refusal tells nothing about the right value.
func (k macKey) verify(data, mac []byte) bool {
	want := k.sum(data)
	return subtle.ConstantTimeCompare(want[:], mac) == 1
}

// newPINKey makes the cipher of the zone PIN key from a clear double length key (K1, K2, K1).
func newPINKey(key []byte) (cipher.Block, error) {
	if len(key) != doubleKey {
		return nil, fmt.Errorf("key has %d bytes, need %d", len(key), doubleKey)
	}
	triple := make([]byte, 0, doubleKey+desBlock)
	triple = append(append(triple, key...), key[:desBlock]...)
	defer clear(triple)
	return des.NewTripleDESCipher(triple)
}

// pinFieldISO0 is the clear ISO 9564-1 format 0 block: 0 | length | PIN | fill F, XOR 0000 | twelve rightmost PAN digits
// without the check digit.
func pinFieldISO0(pin, pan string) ([desBlock]byte, error) {
	var block [desBlock]byte
	if len(pin) < minPINDigits || len(pin) > maxPINDigits || !digits([]byte(pin)) {
		return block, fmt.Errorf("PIN must be %d to %d digits", minPINDigits, maxPINDigits)
	}
	account, err := panFieldISO0(pan)
	if err != nil {
		return block, err
	}
	nibbles := [2 * desBlock]byte{0, byte(len(pin))}
	for i := 2; i < len(nibbles); i++ {
		nibbles[i] = 0xF
		if at := i - 2; at < len(pin) {
			nibbles[i] = pin[at] - '0'
		}
	}
	for i := range block {
		block[i] = nibbles[2*i]<<4 | nibbles[2*i+1]
	}
	subtle.XORBytes(block[:], block[:], account[:])
	return block, nil
}

// panFieldISO0 is the second half of the format 0 block.
func panFieldISO0(pan string) ([desBlock]byte, error) {
	const accountDigits = 12 // The rightmost twelve, check digit excluded.
	var block [desBlock]byte
	if len(pan) < accountDigits+1 || !digits([]byte(pan)) {
		return block, fmt.Errorf("PAN must have at least %d digits for a PIN block", accountDigits+1)
	}
	account := pan[len(pan)-1-accountDigits : len(pan)-1]
	for i := 0; i < accountDigits; i += 2 {
		block[2+i/2] = (account[i]-'0')<<4 | (account[i+1] - '0')
	}
	return block, nil
}

// pinMatches decrypts a PIN block under the zone PIN key and compares it with the wanted clear block in constant time.
// A block that does not even have the form of this card's format 0 is errPINBlock: then the keys or the PAN differ, and
// the card holder has not typed a wrong PIN.
func pinMatches(key cipher.Block, encrypted, want, panField [desBlock]byte) (bool, error) {
	var got [desBlock]byte
	defer clear(got[:])
	key.Decrypt(got[:], encrypted[:])
	same := subtle.ConstantTimeCompare(got[:], want[:]) == 1
	subtle.XORBytes(got[:], got[:], panField[:])
	if !pinFieldFormed(got) {
		return false, errPINBlock
	}
	return same, nil
}

// pinFieldFormed tells whether a block, PAN field removed, reads 0 | length | digits | fill F.
func pinFieldFormed(block [desBlock]byte) bool {
	length := int(block[0] & 0x0F)
	if block[0]>>4 != 0 || length < minPINDigits || length > maxPINDigits {
		return false
	}
	for i := 2; i < 2*desBlock; i++ {
		nibble := block[i/2] & 0x0F
		if i%2 == 0 {
			nibble = block[i/2] >> 4
		}
		if digit := i-2 < length; digit && nibble > 9 || !digit && nibble != 0xF {
			return false
		}
	}
	return true
}
