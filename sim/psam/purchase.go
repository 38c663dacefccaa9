package psam

import (
	"crypto/subtle"
	"encoding/binary"
)

// Layout of INIT_SAM_FOR_PURCHASE data (facts/psam.md §3.1).
const (
	purchaseRandom  = 0  // 4
	purchaseCounter = 4  // 2
	purchaseAmount  = 6  // 4
	purchaseType    = 10 // 1
	purchaseDate    = 11 // date 4, time 3
	purchaseVersion = 18 // 1
	purchaseAlg     = 19 // 1
	purchaseSerial  = 20 // user serial 8, then further factors of 8
	purchaseMAC     = 4  // length of MAC1 and MAC2
	purchaseMinimum = purchaseSerial + factorSize
)

// purchase is an e-purse purchase between its two commands.
type purchase struct {
	alg        algorithm
	sessionKey []byte
	amount     []byte
}

// initForPurchase is 80 70 00 00 Lc data: terminal sequence 4 || MAC1 4. The specification puts the user card's serial
// first and derives it last (facts/psam.md §1.1), whatever the profile says about 80 1A.
func (c *Card) initForPurchase(cmd command) ([]byte, status) {
	c.session.purchase = nil
	d := cmd.data
	switch {
	case cmd.p1 != 0 || cmd.p2 != 0:
		return nil, swWrongP1P2
	case len(d) < purchaseMinimum || (len(d)-purchaseSerial)%factorSize != 0:
		return nil, swWrongLength
	case c.session.df != application:
		return nil, swConditions
	}
	levels := (len(d) - purchaseSerial) / factorSize
	if levels > 7 {
		return nil, swWrongLength
	}
	key := c.mem.key(c.session.df, byte(levels)<<5|usagePurchase, d[purchaseVersion])
	if key == nil || key.Alg != algorithm(d[purchaseAlg]) {
		return nil, swKeyNotFound
	}
	card, sw := derive(key, d[purchaseSerial:], true)
	if sw != swOK {
		return nil, sw
	}
	sequence := binary.BigEndian.AppendUint32(nil, c.mem.Sequence)
	input := append(append([]byte(nil), d[purchaseRandom:purchaseAmount]...), sequence[2:]...)
	alg, sessionKey, err := purchaseSession(key.Alg, card, input)
	if err != nil {
		return nil, swConditions
	}
	// MAC1 covers amount, type, terminal number, date and time.
	covered := append([]byte(nil), d[purchaseAmount:purchaseDate]...)
	covered = append(covered, c.mem.Files[terminalNo]...)
	covered = append(covered, d[purchaseDate:purchaseVersion]...)
	mac, err := blockMAC(alg, sessionKey, nil, pad80(covered, alg.blockSize()))
	if err != nil {
		return nil, swInternal
	}
	amount := append([]byte(nil), d[purchaseAmount:purchaseType]...)
	c.session.purchase = &purchase{alg: alg, sessionKey: sessionKey, amount: amount}
	return append(sequence, mac[:purchaseMAC]...), swOK
}

// purchaseSession makes the key of one purchase: 8 bytes for single DES, or the SM4 form of the derivation
// (facts/psam.md §1.1, §1.2).
func purchaseSession(alg algorithm, card, input []byte) (algorithm, []byte, error) {
	if alg == algSM4 {
		key, err := diversify(algSM4, card, input)
		return algSM4, key, err
	}
	key, err := encipher(alg, card, input)
	return algDES, key, err
}

// creditForPurchase is 80 72 00 00 04 MAC2: a right MAC2 moves the terminal sequence on.
func (c *Card) creditForPurchase(cmd command) ([]byte, status) {
	running := c.session.purchase
	c.session.purchase = nil
	switch {
	case cmd.p1 != 0 || cmd.p2 != 0:
		return nil, swWrongP1P2
	case len(cmd.data) != purchaseMAC:
		return nil, swWrongLength
	case running == nil:
		return nil, swConditions
	}
	mac, err := blockMAC(running.alg, running.sessionKey, nil, pad80(running.amount, running.alg.blockSize()))
	if err != nil {
		return nil, swInternal
	}
	if subtle.ConstantTimeCompare(mac[:purchaseMAC], cmd.data) != 1 {
		return nil, swCheckWrong
	}
	c.mem.Sequence++
	c.dirty = true
	return nil, swOK
}
