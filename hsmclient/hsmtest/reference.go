package hsmtest

import (
	"bytes"
	"crypto/cipher"
	"crypto/des" // Reference calculations on public test keys.
	"encoding/hex"
	"math/bits"
	"strings"
	"testing"

	"github.com/emmansun/gmsm/sm4"

	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
)

// Public test keys.
const (
	masterKey = "0123456789ABCDEFFEDCBA9876543210" // design of the dev data; also the master of work keys here
	zoneKey   = "C7152C20BC2C830EA7EC9E8334ABE3FE" // facts/hsm.md §2.4
	otherKey  = "D3DCC7EA9BCB755D254620B376B3D007" // facts/hsm.md §2.4
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func upperHex(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }

func oddParity(key []byte) []byte {
	out := bytes.Clone(key)
	for i, b := range out {
		if bits.OnesCount8(b)%2 == 0 {
			out[i] = b ^ 1
		}
	}
	return out
}

func blockOf(t testing.TB, algorithm keys.Algorithm, key []byte) cipher.Block {
	t.Helper()
	var block cipher.Block
	var err error
	switch {
	case algorithm == keys.SM4:
		block, err = sm4.NewCipher(key)
	case len(key) == des.BlockSize:
		block, err = des.NewCipher(key)
	default:
		block, err = des.NewTripleDESCipher(append(bytes.Clone(key), key[:des.BlockSize]...))
	}
	if err != nil {
		t.Fatal(err)
	}
	return block
}

// ecb works block by block.
func ecb(work func(dst, src []byte), size int, data []byte) []byte {
	out := make([]byte, len(data))
	for i := 0; i < len(data); i += size {
		work(out[i:i+size], data[i:i+size])
	}
	return out
}

func encrypt(t testing.TB, algorithm keys.Algorithm, key, data []byte) []byte {
	b := blockOf(t, algorithm, key)
	return ecb(b.Encrypt, b.BlockSize(), data)
}

func decrypt(t testing.TB, algorithm keys.Algorithm, key, data []byte) []byte {
	b := blockOf(t, algorithm, key)
	return ecb(b.Decrypt, b.BlockSize(), data)
}

func xor(a, b []byte) []byte {
	out := make([]byte, len(a))
	for i := range a {
		out[i] = a[i] ^ b[i]
	}
	return out
}

// cbcMAC is ISO/IEC 9797-1 algorithm 1 with zero padding.
func cbcMAC(t testing.TB, algorithm keys.Algorithm, key, data []byte) []byte {
	b := blockOf(t, algorithm, key)
	size := b.BlockSize()
	data = append(bytes.Clone(data), make([]byte, (size-len(data)%size)%size)...)
	state := make([]byte, size)
	for i := 0; i < len(data); i += size {
		b.Encrypt(state, xor(state, data[i:i+size]))
	}
	return state
}

// retailMAC is algorithm 3: single DES with the left half, and the last block once more through right and left.
func retailMAC(t testing.TB, key, data []byte) []byte {
	mac := cbcMAC(t, keys.DES, key[:8], data)
	return encrypt(t, keys.DES, key[:8], decrypt(t, keys.DES, key[8:], mac))
}

// pinBlockISO0 is the clear block of format 0.
func pinBlockISO0(t testing.TB, pin string, pan secret.PAN) []byte {
	return xor(pinField(t, pin, 8), panField(t, pan, 8))
}

// pinBlockWide is the 16-byte form (facts/unionpay.md §6 form B).
func pinBlockWide(t testing.TB, pin string, pan secret.PAN) []byte {
	return xor(pinField(t, pin, 16), panField(t, pan, 16))
}

// pinField is length, digits, and F up to size bytes.
func pinField(t testing.TB, pin string, size int) []byte {
	text := "0" + string("0123456789ABC"[len(pin)]) + pin
	for len(text) < 2*size {
		text += "F"
	}
	return unhex(t, text)
}

// panField is the twelve digits before the check digit at the end of size bytes.
func panField(t testing.TB, pan secret.PAN, size int) []byte {
	digits := pan.Reveal()
	right := unhex(t, digits[len(digits)-13:len(digits)-1])
	return append(make([]byte, size-len(right)), right...)
}

func panOf(t testing.TB, digits string) secret.PAN {
	t.Helper()
	pan, err := secret.ParsePAN(digits)
	if err != nil {
		t.Fatal(err)
	}
	return pan
}
