// Package psamtest plays the issuer against a virtual PSAM in tests: it makes WRITE KEY commands and work-key records
// with its own arithmetic, apart from the card's. Test code only.
package psamtest

import (
	"bytes"
	"crypto/cipher"
	"crypto/des" // Test counterpart of a DES card.
	"encoding/hex"
	"testing"

	"github.com/tjfoc/gmsm/sm4"
)

// Algorithm bytes of key records; TDES takes 16-byte keys, DES 8-byte ones.
const (
	TDES byte = 0x00
	DES  byte = 0x01
	SM4  byte = 0x04
)

// Reader is what the issuer talks to.
type Reader interface{ Transmit(apdu []byte) []byte }

// Hex decodes hex text, spaces allowed, and fails the test on anything else.
func Hex(tb testing.TB, text string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(string(bytes.ReplaceAll([]byte(text), []byte(" "), nil)))
	if err != nil {
		tb.Fatalf("not hex: %v", err)
	}
	return b
}

// Send transmits a command and fails the test unless the card answers 9000. It returns the data.
func Send(tb testing.TB, card Reader, apdu []byte) []byte {
	tb.Helper()
	answer := card.Transmit(apdu)
	if n := len(answer); n < 2 || answer[n-2] != 0x90 || answer[n-1] != 0 {
		tb.Fatalf("command %X: card answered %X", apdu[:min(len(apdu), 5)], answer[max(0, len(answer)-2):])
	}
	return answer[:len(answer)-2]
}

// SelectApplication selects DF01, where terminal master key and work keys live.
func SelectApplication(tb testing.TB, card Reader) {
	tb.Helper()
	Send(tb, card, []byte{0x00, 0xA4, 0x00, 0x00, 0x02, 0xDF, 0x01})
}

// WriteKey fetches a challenge and writes a key of the selected DF under a control key (facts/psam.md §3.2). It
// returns the card's answer.
func WriteKey(tb testing.TB, card Reader, controlAlg byte, control []byte, usage, id, alg byte, key []byte) []byte {
	tb.Helper()
	challenge := Send(tb, card, []byte{0x00, 0x84, 0x00, 0x00, 0x04})
	return card.Transmit(WriteKeyCommand(tb, challenge, controlAlg, control, usage, id, alg, key))
}

// WriteKeyCommand is the APDU of WriteKey for a known challenge.
func WriteKeyCommand(tb testing.TB, challenge []byte, controlAlg byte, control []byte, usage, id, alg byte, key []byte) []byte {
	tb.Helper()
	block := blockOf(tb, controlAlg, control)
	plain := append([]byte{byte(3 + len(key)), usage, id, alg}, key...)
	sealed := Encipher(tb, controlAlg, control, pad(plain, block.BlockSize()))
	apdu := append([]byte{0x84, 0xD4, 0x00, 0x00, byte(len(sealed) + 4)}, sealed...)
	return append(apdu, commandMAC(tb, controlAlg, control, challenge, apdu)[:4]...)
}

func commandMAC(tb testing.TB, alg byte, key, challenge, data []byte) []byte {
	tb.Helper()
	chain := blockOf(tb, alg, key)
	if alg == TDES {
		chain = blockOf(tb, DES, key[:8])
	}
	state := make([]byte, chain.BlockSize())
	copy(state, challenge)
	data = pad(data, chain.BlockSize())
	for ; len(data) > 0; data = data[len(state):] {
		for i := range state {
			state[i] ^= data[i]
		}
		chain.Encrypt(state, state)
	}
	if alg == TDES {
		blockOf(tb, DES, key[8:]).Decrypt(state, state)
		chain.Encrypt(state, state)
	}
	return state
}

// Encipher is ECB under a key of an algorithm byte.
func Encipher(tb testing.TB, alg byte, key, data []byte) []byte {
	tb.Helper()
	block := blockOf(tb, alg, key)
	out := make([]byte, len(data))
	for i := 0; i < len(data); i += block.BlockSize() {
		block.Encrypt(out[i:], data[i:])
	}
	return out
}

// KCV is the first 4 bytes of a zero block under a key.
func KCV(tb testing.TB, alg byte, key []byte) []byte {
	tb.Helper()
	return Encipher(tb, alg, key, make([]byte, blockOf(tb, alg, key).BlockSize()))[:4]
}

// Record is a work key as it comes to the card: cipher under the terminal master key, then 4 bytes of check value.
func Record(tb testing.TB, alg byte, tmk []byte, key []byte) []byte {
	tb.Helper()
	keyAlg := alg
	if alg == TDES && len(key) == 8 {
		keyAlg = DES
	}
	return append(Encipher(tb, alg, tmk, key), KCV(tb, keyAlg, key)...)
}

// UpdateRecord is the command that presents a work-key record.
func UpdateRecord(record byte, content []byte) []byte {
	return append([]byte{0x00, 0xDC, record, 0x04, byte(len(content))}, content...)
}

// Issue personalises a blank card as the issuer does: card control key under the transport key, application control key
// under the card control key, terminal master keys (3DES id 01; SM4 id 41 when sm4TMK is given) under the application
// control key. The application stays selected.
func Issue(tb testing.TB, card Reader, transport, tmk, sm4TMK []byte) {
	tb.Helper()
	cardControl := Hex(tb, "A0A1A2A3A4A5A6A7A8A9AAABACADAEAF")
	appControl := Hex(tb, "B0B1B2B3B4B5B6B7B8B9BABBBCBDBEBF")
	Send(tb, card, []byte{0x00, 0xA4, 0x00, 0x00, 0x02, 0x3F, 0x00})
	mustWrite(tb, WriteKey(tb, card, TDES, transport, 0x00, 0x00, TDES, cardControl))
	SelectApplication(tb, card)
	mustWrite(tb, WriteKey(tb, card, TDES, cardControl, 0x00, 0x00, TDES, appControl))
	mustWrite(tb, WriteKey(tb, card, TDES, appControl, 0x10, 0x01, TDES, tmk))
	if sm4TMK != nil {
		mustWrite(tb, WriteKey(tb, card, TDES, appControl, 0x10, 0x41, SM4, sm4TMK))
	}
}

func mustWrite(tb testing.TB, answer []byte) {
	tb.Helper()
	if !bytes.Equal(answer, []byte{0x90, 0x00}) {
		tb.Fatalf("write key: card answered %X", answer)
	}
}

// LoadWorkKeys presents and commits a set of work keys; a nil track key is left out.
func LoadWorkKeys(tb testing.TB, card Reader, alg byte, tmk, pin, mac, track []byte) {
	tb.Helper()
	SelectApplication(tb, card)
	id := byte(0x01)
	if alg == SM4 {
		id = 0x41
	}
	Send(tb, card, []byte{0x80, 0xF8, 0x00, id})
	for i, key := range [][]byte{pin, mac, track} {
		if key != nil {
			Send(tb, card, UpdateRecord(byte(11+i), Record(tb, alg, tmk, key)))
		}
	}
	Send(tb, card, []byte{0x80, 0xF8, 0x01, 0x00})
}

func pad(data []byte, size int) []byte {
	out := append(bytes.Clone(data), 0x80)
	for len(out)%size != 0 {
		out = append(out, 0)
	}
	return out
}

func blockOf(tb testing.TB, alg byte, key []byte) cipher.Block {
	tb.Helper()
	var block cipher.Block
	var err error
	switch alg {
	case DES:
		block, err = des.NewCipher(key)
	case SM4:
		block, err = sm4.NewCipher(key)
	default:
		block, err = des.NewTripleDESCipher(append(bytes.Clone(key), key[:8]...))
	}
	if err != nil {
		tb.Fatalf("cipher: %v", err)
	}
	return block
}
