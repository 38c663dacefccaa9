package psam

import (
	"crypto/subtle"
	"encoding/hex"
	"strings"
)

// work finds the work key of a terminal function; the application must be selected.
func (c *Card) work(record byte) (*workKey, status) {
	if c.session.df != application {
		return nil, swConditions
	}
	key := c.mem.workKey(record)
	if key == nil {
		return nil, swKeyNotFound
	}
	return key, swOK
}

// Forms of a PIN block, P1 of PIN BLOCK.
const (
	pinISO0 byte = 0x00 // ISO 9564-1 format 0; under SM4 followed by 8 zero bytes (facts/unionpay.md §6, form A)
	pinWide byte = 0x01 // 16-byte block for SM4 (facts/unionpay.md §6, form B)
)

// pan12Digits is how many PAN digits, left of the check digit, enter a PIN block.
const pan12Digits = 12

// pinBlock is 80 C2 form 00 Lc: L 1 | PIN digits L | PAN digits 12, all digits ASCII; the answer is the block under the
// PIN key. Without a PAN the terminal sends twelve zeros (facts/unionpay.md §5).
func (c *Card) pinBlock(cmd command) ([]byte, status) {
	key, sw := c.work(recordPIN)
	switch {
	case cmd.p2 != 0 || cmd.p1 > pinWide:
		return nil, swWrongP1P2
	case sw != swOK:
		return nil, sw
	case cmd.p1 == pinWide && key.Alg != algSM4:
		return nil, swConditions
	case len(cmd.data) == 0 || len(cmd.data) != 1+int(cmd.data[0])+pan12Digits:
		return nil, swWrongLength
	}
	pin, pan := cmd.data[1:1+cmd.data[0]], cmd.data[1+cmd.data[0]:]
	if len(pin) < 4 || len(pin) > 12 || !allDigits(pin) || !allDigits(pan) {
		return nil, swWrongData
	}
	size := 8
	if cmd.p1 == pinWide {
		size = 16
	}
	plain, err := clearPINBlock(string(pin), string(pan), size)
	if err != nil {
		return nil, swInternal
	}
	if len(plain) < key.Alg.blockSize() {
		plain = append(plain, make([]byte, key.Alg.blockSize()-len(plain))...)
	}
	out, err := encipher(key.Alg, key.Value, plain)
	if err != nil {
		return nil, swInternal
	}
	return out, swOK
}

// clearPINBlock is length, PIN and F fill, XOR the 12 PAN digits at the right end. Lengths of 10 to 12 are one hex
// nibble (0A to 0C) as in ISO 9564-1.
func clearPINBlock(pin, pan12 string, size int) ([]byte, error) {
	text := "0" + strings.ToUpper(string("0123456789abc"[len(pin)])) + pin
	block, err := hex.DecodeString(text + strings.Repeat("F", 2*size-len(text)))
	if err != nil {
		return nil, err
	}
	account, err := hex.DecodeString(strings.Repeat("0", 2*size-pan12Digits) + pan12)
	if err != nil {
		return nil, err
	}
	subtle.XORBytes(block, block, account)
	return block, nil
}

// encipherTrack is 80 C8 00 00 Lc block: one block of a track (8 bytes, 16 under SM4) under the magstripe key
// (facts/unionpay.md §5).
func (c *Card) encipherTrack(cmd command) ([]byte, status) {
	key, sw := c.work(recordTrack)
	switch {
	case cmd.p1 != 0 || cmd.p2 != 0:
		return nil, swWrongP1P2
	case sw != swOK:
		return nil, sw
	case len(cmd.data) != key.Alg.blockSize():
		return nil, swWrongLength
	}
	out, err := encipher(key.Alg, key.Value, cmd.data)
	if err != nil {
		return nil, swInternal
	}
	return out, swOK
}
