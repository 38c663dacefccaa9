package hsm

import "crypto/cipher"

// MAC algorithms, the digit of M6 and the second digit of S0 and SH.
const (
	macCBC    = '1' // ISO 9797-1 algorithm 1.
	macRetail = '3' // ISO 9797-1 algorithm 3, X9.19.
	macCMAC   = '6' // SP 800-38B.
)

// cbcState runs the chain of a CBC-MAC over whole blocks and returns the last state.
func cbcState(b cipher.Block, iv, data []byte) []byte {
	state, n := append([]byte(nil), iv...), b.BlockSize()
	for i := 0; i+n <= len(data); i += n {
		xorInto(state, data[i:i+n])
		b.Encrypt(state, state)
	}
	return state
}

// chainCipher is the cipher of all blocks but the output transformation: algorithm 3 chains with the left half only. A
// double-length key under algorithm 1 means 3DES on every block.
func chainCipher(k *key, algorithm byte) (cipher.Block, errorCode) {
	if algorithm != macRetail {
		return k.block, codeOK
	}
	if k.alg != algDES || len(k.clear) != 16 {
		return nil, codeLength
	}
	left, _ := k.halves()
	return left, codeOK
}

// computeMAC MACs padded data (CMAC: data as it is, because it pads by its own rule) and returns a whole block.
func computeMAC(k *key, algorithm byte, iv, data []byte) ([]byte, errorCode) {
	chain, code := chainCipher(k, algorithm)
	if code != codeOK {
		return nil, code
	}
	if algorithm == macCMAC {
		return cmac(k.block, iv, data), codeOK
	}
	if len(data) == 0 || len(data)%k.blockSize() != 0 {
		return nil, codeData
	}
	mac := cbcState(chain, iv, data)
	if algorithm == macRetail {
		left, right := k.halves()
		right.Decrypt(mac, mac)
		left.Encrypt(mac, mac)
	}
	return mac, codeOK
}

// cmac is SP 800-38B over data, going on from a chained state.
func cmac(b cipher.Block, iv, data []byte) []byte {
	n := b.BlockSize()
	subkey := make([]byte, n)
	b.Encrypt(subkey, subkey)
	double(subkey)
	full := len(data) > 0 && len(data)%n == 0
	if !full {
		double(subkey)
		data = pad80(data, n)
	}
	head, last := data[:len(data)-n], append([]byte(nil), data[len(data)-n:]...)
	xorInto(last, subkey)
	return cbcState(b, cbcState(b, iv, head), last)
}

// double multiplies by x in GF(2^64) or GF(2^128).
func double(v []byte) {
	reduce := byte(0x1B)
	if len(v) == 16 {
		reduce = 0x87
	}
	carry := v[0] >> 7
	for i := range v {
		v[i] <<= 1
		if i+1 < len(v) {
			v[i] |= v[i+1] >> 7
		}
	}
	v[len(v)-1] ^= reduce * carry
}
