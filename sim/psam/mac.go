package psam

import (
	"bytes"
	"crypto/subtle"
	"encoding/hex"
)

// moreFollows in P1 of the MAC commands says that the data goes on in the next command of the same instruction.
const moreFollows byte = 0x80

// The low digit of P1 chooses the MAC (facts/unionpay.md §4).
const (
	macXOR    byte = 0x00 // the UnionPay form: two encryptions over the hex characters of the XOR of all blocks
	macCBC    byte = 0x01 // CBC-MAC with the whole key; X9.9 with a single-length one
	macRetail byte = 0x02 // X9.19, for a double-length key
	macCMAC   byte = 0x03 // CMAC
)

// P2 chooses what travels of the MAC. The UnionPay form has characters only.
const (
	formHex    byte = 0x00 // the first four bytes as eight upper-case hex characters
	formBinary byte = 0x01 // the first eight bytes
)

const (
	// messageMACSize is the MAC as it travels, in both forms.
	messageMACSize = 8
	// maxMACData bounds a message that comes in parts; no message of the dialect comes near it.
	maxMACData = 8 << 10
)

// macChain is a message that comes in several commands.
type macChain struct {
	ins, kind, form byte
	data            []byte
}

// computeMAC is 80 C4 P1 P2 Lc data: a MAC under the MAC key. P1 80 says that more data follows; such a part is a whole number of
// blocks.
func (c *Card) computeMAC(cmd command) ([]byte, status) {
	mac, more, sw := c.absorb(cmd, cmd.data)
	if sw != swOK || more {
		return nil, sw
	}
	return mac, swOK
}

// verifyMAC is 80 C6 P1 P2 Lc data || MAC 8: as 80 C4, with the MAC at the end of the last part. A wrong one answers
// 9302.
func (c *Card) verifyMAC(cmd command) ([]byte, status) {
	data := cmd.data
	var presented []byte
	if cmd.p1&moreFollows == 0 {
		if len(data) < messageMACSize {
			c.session.chain = nil
			return nil, swWrongLength
		}
		data, presented = data[:len(data)-messageMACSize], data[len(data)-messageMACSize:]
	}
	mac, more, sw := c.absorb(cmd, data)
	if sw != swOK || more {
		return nil, sw
	}
	if subtle.ConstantTimeCompare(mac, presented) != 1 {
		return nil, swCheckWrong
	}
	return nil, swOK
}

// absorb adds one part to the message and, on the last part, makes the MAC.
func (c *Card) absorb(cmd command, data []byte) (mac []byte, more bool, sw status) {
	chain := c.session.chain
	c.session.chain = nil
	key, sw := c.work(recordMAC)
	kind, form := cmd.p1&^moreFollows, cmd.p2
	switch {
	case kind > macCMAC || form > formBinary || kind == macXOR && form != formHex:
		return nil, false, swWrongP1P2
	case sw != swOK:
		return nil, false, sw
	case kind == macRetail && key.Alg != algTDES:
		return nil, false, swConditions
	}
	size := key.Alg.blockSize()
	more = cmd.p1&moreFollows != 0
	if more && (len(data) == 0 || len(data)%size != 0) {
		return nil, false, swWrongLength
	}
	if chain == nil {
		chain = &macChain{ins: cmd.ins, kind: kind, form: form}
	}
	if chain.kind != kind || chain.form != form || len(chain.data)+len(data) > maxMACData {
		return nil, false, swConditions
	}
	chain.data = append(chain.data, data...)
	if more {
		c.session.chain = chain
		return nil, true, swOK
	}
	whole, err := wholeMAC(kind, key.Alg, key.Value, chain.data)
	if err != nil {
		return nil, false, swInternal
	}
	if form == formBinary {
		return whole[:messageMACSize], false, swOK
	}
	return hexUpper(whole)[:messageMACSize], false, swOK
}

// wholeMAC is the MAC before it is cut: one block.
func wholeMAC(kind byte, alg algorithm, key, data []byte) ([]byte, error) {
	size := alg.blockSize()
	switch kind {
	case macXOR:
		sum := make([]byte, size)
		for len(data) > 0 {
			n := subtle.XORBytes(sum, sum, data[:min(size, len(data))])
			data = data[n:]
		}
		return cbcMAC(alg, key, hexUpper(sum))
	case macRetail:
		return blockMAC(alg, key, nil, zeroPadded(data, size))
	case macCMAC:
		return cmac(alg, key, data)
	default:
		return cbcMAC(alg, key, zeroPadded(data, size))
	}
}

// cbcMAC runs whole blocks through the whole key.
func cbcMAC(alg algorithm, key, data []byte) ([]byte, error) {
	size := alg.blockSize()
	state := make([]byte, size)
	for ; len(data) >= size; data = data[size:] {
		subtle.XORBytes(state, state, data)
		var err error
		if state, err = encipher(alg, key, state); err != nil {
			return nil, err
		}
	}
	return state, nil
}

// cmac is NIST SP 800-38B: the last block is whole and XORed with the first sub-key, or filled up with 80 00… and XORed with the second.
func cmac(alg algorithm, key, data []byte) ([]byte, error) {
	size := alg.blockSize()
	sub, err := encipher(alg, key, make([]byte, size))
	if err != nil {
		return nil, err
	}
	sub = doubled(sub)
	if len(data) == 0 || len(data)%size != 0 {
		sub = doubled(sub)
		data = pad80(data, size)
	} else {
		data = bytes.Clone(data)
	}
	last := data[len(data)-size:]
	subtle.XORBytes(last, last, sub)
	return cbcMAC(alg, key, data)
}

// doubled is multiplication by x in the field of the block size.
func doubled(block []byte) []byte {
	out := make([]byte, len(block))
	carry := byte(0)
	for i := len(block) - 1; i >= 0; i-- {
		out[i] = block[i]<<1 | carry
		carry = block[i] >> 7
	}
	reduce := byte(0x1B) // 64-bit blocks
	if len(block) == 16 {
		reduce = 0x87
	}
	out[len(out)-1] ^= carry * reduce
	return out
}

// zeroPadded fills up to whole blocks with zeros, nothing where there is nothing to fill.
func zeroPadded(data []byte, size int) []byte {
	return append(bytes.Clone(data), make([]byte, (size-len(data)%size)%size)...)
}

func hexUpper(b []byte) []byte {
	return bytes.ToUpper(hex.AppendEncode(nil, b))
}
