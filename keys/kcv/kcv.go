// Package kcv computes check values of clear keys: for tests, tools and the key ceremony of dev mode. Services never see
// a clear key and ask the HSM instead (command.Checker).
package kcv

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des" // Payment networks prescribe DES and triple DES (facts/unionpay.md §3).
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/emmansun/gmsm/cbcmac"
	"github.com/emmansun/gmsm/sm4"

	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
)

// Of gives the whole check value of a clear key: 16 hex digits for DES and TDES, 32 for AES and SM4; callers cut it to
// what their network prints.
//
//   - DES (8 bytes), TDES (16 or 24 bytes) and SM4 (16 bytes): one zero block enciphered under the key as it is, parity bits
//     included (facts/hsm.md §2.3, facts/unionpay.md §3).
//   - AES (16, 24 or 32 bytes): CMAC over one zero block (X9.24-1:2017, X9.143).
//
// The error names the length, never the value.
func Of(algorithm keys.Algorithm, key secret.Key) (keys.KCV, error) {
	block, err := newBlock(algorithm, key)
	if err != nil {
		return "", err
	}
	if algorithm == keys.AES {
		zero := make([]byte, aes.BlockSize)
		return text(cbcmac.NewCMAC(block, aes.BlockSize).MAC(zero)), nil
	}
	return ofZeroBlock(block), nil
}

// AESLegacy gives the check value of an AES key in the older form: one zero block enciphered under the key, 32 hex digits.
// X9.24-1:2017 replaced it by the CMAC form of Of; some devices still print it.
func AESLegacy(key secret.Key) (keys.KCV, error) {
	block, err := newBlock(keys.AES, key)
	if err != nil {
		return "", err
	}
	return ofZeroBlock(block), nil
}

func ofZeroBlock(block cipher.Block) keys.KCV {
	out := make([]byte, block.BlockSize())
	block.Encrypt(out, out)
	return text(out)
}

func text(b []byte) keys.KCV { return keys.KCV(strings.ToUpper(hex.EncodeToString(b))) }

func newBlock(algorithm keys.Algorithm, key secret.Key) (cipher.Block, error) {
	raw := key.Reveal()
	switch {
	case algorithm == keys.DES && len(raw) == 8:
		return des.NewCipher(raw)
	case algorithm == keys.TDES && len(raw) == 16:
		triple := append(append(make([]byte, 0, 24), raw...), raw[:8]...)
		defer clear(triple)
		return des.NewTripleDESCipher(triple)
	case algorithm == keys.TDES && len(raw) == 24:
		return des.NewTripleDESCipher(raw)
	case algorithm == keys.AES && (len(raw) == 16 || len(raw) == 24 || len(raw) == 32):
		return aes.NewCipher(raw)
	case algorithm == keys.SM4 && len(raw) == sm4.BlockSize:
		return sm4.NewCipher(raw)
	}
	return nil, fmt.Errorf("check value: a key of %d bytes does not fit algorithm %s", len(raw), algorithm)
}
