package hsm

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
)

// TR-31 versions that this device speaks: key derivation with CMAC, under a 3DES and under an AES key.
const (
	tr31TDES = 'B'
	tr31AES  = 'D'
)

// binding is the pair of keys that TR-31 derives from a protection key: one enciphers, one MACs.
type binding struct{ encrypt, mac cipher.Block }

// newBinding derives the keys of version B (3DES, 16 or 24 bytes) or D (AES, 16, 24 or 32 bytes). Callers have checked the
// length. The input of one derivation block is a counter, the purpose, a zero, the algorithm and the length in bits
// (TR-31:2018 A.7; vectors in tr31.json).
func newBinding(version byte, protection []byte) binding {
	base, make1, algorithm := aesBlock(protection), aesBlock, uint16(len(protection)/8) // AES-128, 192, 256 are 2, 3, 4.
	if version == tr31TDES {
		base, make1, algorithm = desBlock(protection), desBlock, uint16(len(protection)/8-2) // Double 0, triple 1.
	}
	derive := func(purpose uint16) cipher.Block {
		out := make([]byte, 0, 32)
		for counter := byte(1); len(out) < len(protection); counter++ {
			input := binary.BigEndian.AppendUint16([]byte{counter}, purpose)
			input = binary.BigEndian.AppendUint16(append(input, 0), algorithm)
			input = binary.BigEndian.AppendUint16(input, uint16(8*len(protection)))
			out = append(out, cmac(base, make([]byte, base.BlockSize()), input)...)
		}
		return make1(out[:len(protection)])
	}
	return binding{encrypt: derive(0), mac: derive(1)}
}

// seal makes a block: header, enciphered length, key and padding, MAC. The bytes before the MAC must be whole cipher blocks.
func (b binding) seal(header string, clear, padding []byte) []byte {
	plain := binary.BigEndian.AppendUint16(nil, uint16(8*len(clear)))
	plain = append(append(plain, clear...), padding...)
	mac := b.macOf([]byte(header), plain)
	cipher.NewCBCEncrypter(b.encrypt, mac).CryptBlocks(plain, plain)
	return append([]byte(header), upperHex(append(plain, mac...))...)
}

// open checks a block whose header has the given number of characters and returns the key. ok is false when the MAC is wrong
// or the block is no whole number of cipher blocks.
func (b binding) open(block []byte, headerChars int) (clear []byte, ok bool) {
	n := b.mac.BlockSize()
	if headerChars > len(block) || (len(block)-headerChars)%(2*n) != 0 || len(block)-headerChars < 4*n {
		return nil, false
	}
	body := make([]byte, (len(block)-headerChars)/2)
	if _, err := hex.Decode(body, block[headerChars:]); err != nil {
		return nil, false
	}
	plain, mac := body[:len(body)-n], body[len(body)-n:]
	cipher.NewCBCDecrypter(b.encrypt, mac).CryptBlocks(plain, plain)
	if subtle.ConstantTimeCompare(b.macOf(block[:headerChars], plain), mac) != 1 {
		return nil, false
	}
	bits := int(binary.BigEndian.Uint16(plain))
	if bits == 0 || bits%8 != 0 || bits/8 > len(plain)-2 {
		return nil, false
	}
	return plain[2 : 2+bits/8], true
}

func (b binding) macOf(header, plain []byte) []byte {
	input := append(append(make([]byte, 0, len(header)+len(plain)), header...), plain...)
	return cmac(b.mac, make([]byte, b.mac.BlockSize()), input)
}

// blockPadding is the random filling after a key, so that the block does not tell its length: keys shorter than 24 bytes fill
// up to that, and the whole is a number of cipher blocks.
func (b binding) blockPadding(keyBytes int) []byte {
	n := b.mac.BlockSize()
	whole := (2 + max(keyBytes, maxKeyBytes) + n - 1) / n * n
	out := make([]byte, whole-2-keyBytes)
	rand.Read(out)
	return out
}

// aesBlock builds AES. The lengths are checked before, so an error is a programming mistake of this package.
func aesBlock(clear []byte) cipher.Block {
	block, err := aes.NewCipher(clear)
	if err != nil {
		panic("hsm: AES key length was not checked") // Unreachable: every caller passes 16, 24 or 32 bytes.
	}
	return block
}
