package hsm

import (
	"crypto/cipher"
	"crypto/des"
	"encoding/hex"
	"fmt"
	"math/bits"
	"strings"
	"sync"

	"github.com/tjfoc/gmsm/sm4"
)

// algorithm is the block cipher family of a key.
type algorithm int

const (
	algDES algorithm = iota + 1 // Single, double or triple length DES, 8-byte blocks.
	algSM4                      // SM4, 16-byte blocks.
	algAES                      // AES with 16, 24 or 32 bytes, in key blocks only.
)

// key is a clear key with its cipher. It never changes after it was made, so it may be shared between goroutines.
type key struct {
	alg   algorithm
	clear []byte
	block cipher.Block
	// attributes are those of the key block that the key came in; zero under a variant LMK. Set before the key is shared.
	attributes attributes

	halvesOnce  sync.Once
	left, right cipher.Block // Single DES with either half, for ISO 9797-1 algorithm 3.
}

// newKey makes a key from clear bytes. The length must be 8, 16 or 24 for DES, 16 for SM4, and 16, 24 or 32 for AES; callers have checked it.
func newKey(alg algorithm, clear []byte) *key {
	k := &key{alg: alg, clear: append([]byte(nil), clear...)}
	switch alg {
	case algSM4:
		k.block = sm4Block(k.clear)
	case algAES:
		k.block = aesBlock(k.clear)
	default:
		k.block = desBlock(k.clear)
	}
	return k
}

// blockSize is 8 for DES and 16 for SM4 and AES.
func (k *key) blockSize() int { return k.block.BlockSize() }

// halves returns single DES ciphers of the two halves of a double-length key.
func (k *key) halves() (left, right cipher.Block) {
	k.halvesOnce.Do(func() { k.left, k.right = desBlock(k.clear[:8]), desBlock(k.clear[8:16]) })
	return k.left, k.right
}

// checkValue is E(key, zero block), of AES keys the CMAC of a zero block (facts/hsm.md §2.3): the first 8 bytes as 16
// upper-case hex digits.
func (k *key) checkValue() string {
	out := make([]byte, k.blockSize())
	if k.alg == algAES {
		return upperHex(cmac(k.block, out, out)[:8])
	}
	k.block.Encrypt(out, out)
	return upperHex(out[:8])
}

// desBlock builds single, double (K1 K2 K1) or triple DES. The lengths are checked before, so an error is a programming
// mistake of this package.
func desBlock(clear []byte) cipher.Block {
	var block cipher.Block
	var err error
	switch len(clear) {
	case 8:
		block, err = des.NewCipher(clear)
	case 16:
		block, err = des.NewTripleDESCipher(append(append(make([]byte, 0, 24), clear...), clear[:8]...))
	default:
		block, err = des.NewTripleDESCipher(clear)
	}
	if err != nil {
		panic("hsm: DES key length was not checked") // Unreachable: every caller passes 8, 16 or 24 bytes.
	}
	return block
}

// sm4Block makes a fresh cipher for every block, because the library's Block keeps scratch memory in itself and is not
// safe for concurrent use.
type sm4Block []byte

var _ cipher.Block = sm4Block(nil)

// BlockSize is 16.
func (b sm4Block) BlockSize() int { return sm4.BlockSize }

// Encrypt enciphers one block.
func (b sm4Block) Encrypt(dst, src []byte) { b.fresh().Encrypt(dst, src) }

// Decrypt deciphers one block.
func (b sm4Block) Decrypt(dst, src []byte) { b.fresh().Decrypt(dst, src) }

func (b sm4Block) fresh() cipher.Block {
	block, err := sm4.NewCipher(b)
	if err != nil {
		panic("hsm: SM4 key length was not checked") // Unreachable: every caller passes 16 bytes.
	}
	return block
}

// ecbEncrypt enciphers whole blocks into a new slice.
func ecbEncrypt(b cipher.Block, in []byte) []byte {
	out, n := make([]byte, len(in)), b.BlockSize()
	for i := 0; i+n <= len(in); i += n {
		b.Encrypt(out[i:i+n], in[i:i+n])
	}
	return out
}

// ecbDecrypt deciphers whole blocks into a new slice.
func ecbDecrypt(b cipher.Block, in []byte) []byte {
	out, n := make([]byte, len(in)), b.BlockSize()
	for i := 0; i+n <= len(in); i += n {
		b.Decrypt(out[i:i+n], in[i:i+n])
	}
	return out
}

// xorInto sets dst to dst XOR src over the length of src.
func xorInto(dst, src []byte) {
	for i, b := range src {
		dst[i] ^= b
	}
}

// inverted returns NOT of every byte.
func inverted(in []byte) []byte {
	out := make([]byte, len(in))
	for i, b := range in {
		out[i] = ^b
	}
	return out
}

// oddParity reports whether every byte has an odd number of set bits.
func oddParity(b []byte) bool {
	for _, v := range b {
		if bits.OnesCount8(v)%2 == 0 {
			return false
		}
	}
	return true
}

// setOddParity corrects the lowest bit of every byte in place.
func setOddParity(b []byte) {
	for i, v := range b {
		if bits.OnesCount8(v)%2 == 0 {
			b[i] = v ^ 1
		}
	}
}

func allZero(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}

// upperHex is the form of every hex field of an answer.
func upperHex(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }

// CheckValue returns the 16-hex-digit check value of a clear key: the first 8 bytes of a zero block enciphered with it
// (facts/hsm.md §2.3); for AES the first 8 bytes of the CMAC of a zero block. alg is "DES" (8, 16 or 24 bytes), "SM4" (16 bytes)
// or "AES" (16, 24 or 32 bytes). It errs on any other algorithm or length.
func CheckValue(alg string, clear []byte) (string, error) {
	switch {
	case alg == "DES" && (len(clear) == 8 || len(clear) == 16 || len(clear) == 24):
		return newKey(algDES, clear).checkValue(), nil
	case alg == "SM4" && len(clear) == 16:
		return newKey(algSM4, clear).checkValue(), nil
	case alg == "AES" && (len(clear) == 16 || len(clear) == 24 || len(clear) == 32):
		return newKey(algAES, clear).checkValue(), nil
	}
	return "", fmt.Errorf("hsm simulator: no check value for algorithm %q with %d key bytes: use DES (8, 16, 24), SM4 (16) or AES (16, 24, 32)", alg, len(clear))
}
