package hsmtest

import (
	"bytes"
	"crypto/aes"
	"encoding/binary"
	"testing"
)

// AESKeyWrap is the AES Key Wrap of RFC 3394 §2.2.1: the key ceremony of devices whose LMK wraps that way. The key is whole blocks of 8
// bytes, at least two.
func AESKeyWrap(t testing.TB, kek, key []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(kek)
	if err != nil || len(key) < 16 || len(key)%8 != 0 {
		t.Fatalf("key wrap of %d bytes under %d bytes: %v", len(key), len(kek), err)
	}
	out := append(bytes.Repeat([]byte{0xA6}, 8), key...)
	n := len(key) / 8
	var b [aes.BlockSize]byte
	for j := range 6 {
		for i := 1; i <= n; i++ {
			copy(b[:8], out[:8])
			copy(b[8:], out[8*i:])
			block.Encrypt(b[:], b[:])
			binary.BigEndian.PutUint64(out, binary.BigEndian.Uint64(b[:8])^uint64(n*j+i))
			copy(out[8*i:], b[8:])
		}
	}
	return out
}
