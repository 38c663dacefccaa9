package psam

import (
	"crypto/cipher"
	"crypto/des" // The card speaks DES and triple DES because PSAM cards do (facts/psam.md §2.4).
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/tjfoc/gmsm/sm4"
)

// algorithm is the algorithm byte of a key record (facts/psam.md §2.4).
type algorithm byte

const (
	algTDES algorithm = 0x00 // two-key triple DES, 16-byte key
	algDES  algorithm = 0x01 // single DES, 8-byte key
	algSM4  algorithm = 0x04 // SM4, 16-byte key; the value is our assumption, no PSAM text names one
)

// kcvSize is how many bytes of a check value travel on the wire (facts/psam.md §3.7).
const kcvSize = 4

// shortKCV is what one host sends of the check values of SM4 keys (facts/unionpay.md §3).
const shortKCV = 3

var (
	errAlgorithm = errors.New("algorithm and key length do not fit")
	errBlocks    = errors.New("data is not a whole number of blocks")
)

// keySize is the length of a key of this algorithm, or 0 for an algorithm the card does not know.
func (a algorithm) keySize() int {
	switch a {
	case algTDES, algSM4:
		return 16
	case algDES:
		return 8
	}
	return 0
}

// blockSize is the cipher's block length in bytes.
func (a algorithm) blockSize() int {
	if a == algSM4 {
		return sm4.BlockSize
	}
	return des.BlockSize
}

// newBlock makes a cipher for one call. It is never kept: the SM4 block of the library holds scratch buffers and is
// not safe for concurrent use.
func newBlock(alg algorithm, key []byte) (cipher.Block, error) {
	if len(key) != alg.keySize() || len(key) == 0 {
		return nil, errAlgorithm
	}
	switch alg {
	case algDES:
		return des.NewCipher(key)
	case algSM4:
		return sm4.NewCipher(key)
	default:
		// Two-key triple DES runs K1, K2, K1.
		triple := append(append(make([]byte, 0, 24), key...), key[:8]...)
		return des.NewTripleDESCipher(triple)
	}
}

// encipher is ECB over whole blocks.
func encipher(alg algorithm, key, data []byte) ([]byte, error) {
	return ecb(alg, key, data, cipher.Block.Encrypt)
}

// decipher is ECB over whole blocks.
func decipher(alg algorithm, key, data []byte) ([]byte, error) {
	return ecb(alg, key, data, cipher.Block.Decrypt)
}

func ecb(alg algorithm, key, data []byte, step func(cipher.Block, []byte, []byte)) ([]byte, error) {
	block, err := newBlock(alg, key)
	if err != nil {
		return nil, err
	}
	size := block.BlockSize()
	if len(data)%size != 0 {
		return nil, errBlocks
	}
	out := make([]byte, len(data))
	for i := 0; i < len(data); i += size {
		step(block, out[i:i+size], data[i:i+size])
	}
	return out, nil
}

// checkValue is one block of zeros enciphered under the key: 8 bytes, or 16 for SM4 (facts/psam.md §4, vectors kcv.json).
func checkValue(alg algorithm, key []byte) ([]byte, error) {
	return encipher(alg, key, make([]byte, alg.blockSize()))
}

// kcvMatches compares the first bytes of the key's check value with the presented one in constant time.
func kcvMatches(alg algorithm, key, presented []byte) bool {
	full, err := checkValue(alg, key)
	if err != nil || len(presented) != kcvSize && len(presented) != shortKCV {
		return false
	}
	return subtle.ConstantTimeCompare(full[:len(presented)], presented) == 1
}

// pad80 always appends 80 and then zeros up to a whole block (facts/psam.md §3.4, the form of the specification).
func pad80(data []byte, size int) []byte {
	out := append(append(make([]byte, 0, len(data)+size), data...), 0x80)
	for len(out)%size != 0 {
		out = append(out, 0)
	}
	return out
}

// cbcChain runs the blocks of a MAC without its last transformation: single DES with the left half for both DES
// forms, SM4 otherwise. It is what carries a MAC over several commands.
func cbcChain(alg algorithm, key, state, data []byte) ([]byte, error) {
	chainAlg, chainKey := alg, key
	if alg == algTDES {
		if len(key) != algTDES.keySize() {
			return nil, errAlgorithm
		}
		chainAlg, chainKey = algDES, key[:8]
	}
	block, err := newBlock(chainAlg, chainKey)
	if err != nil {
		return nil, err
	}
	size := block.BlockSize()
	if len(data)%size != 0 || len(state) != size {
		return nil, errBlocks
	}
	out := append([]byte(nil), state...)
	for i := 0; i < len(data); i += size {
		subtle.XORBytes(out, out, data[i:i+size])
		block.Encrypt(out, out)
	}
	return out, nil
}

// finishMAC applies the last step of ISO 9797-1 algorithm 3 for a double-length key: decipher right, encipher left.
func finishMAC(alg algorithm, key, state []byte) ([]byte, error) {
	if alg != algTDES {
		return state, nil
	}
	mid, err := decipher(algDES, key[8:], state)
	if err != nil {
		return nil, fmt.Errorf("finish MAC: %w", err)
	}
	return encipher(algDES, key[:8], mid)
}

// blockMAC is the MAC of secure messaging over padded data: CBC-MAC for single DES and SM4, algorithm 3 for a 16-byte
// DES key (facts/psam.md §3.4). The start value is filled with zeros on the right to a block.
func blockMAC(alg algorithm, key, start, padded []byte) ([]byte, error) {
	state := make([]byte, alg.blockSize())
	copy(state, start)
	state, err := cbcChain(alg, key, state, padded)
	if err != nil {
		return nil, err
	}
	return finishMAC(alg, key, state)
}

// diversify applies one level: the factor and its complement under the parent (facts/psam.md §1.1, §1.2). No parity
// adjustment.
func diversify(alg algorithm, parent, factor []byte) ([]byte, error) {
	if alg == algDES {
		return nil, errAlgorithm
	}
	block := make([]byte, 16)
	copy(block, factor)
	for i := range 8 {
		block[8+i] = ^block[i]
	}
	return encipher(alg, parent, block)
}
