package psam

import "slices"

// keyHeader is what stands before a key in WRITE KEY: usage 1, version or id 1, algorithm 1.
const keyHeader = 3

// writeKey is 84 D4 00 00 Lc cipher MAC4 (facts/psam.md §3.2): the key arrives enciphered and MACed under one control
// key. In the master file that is the card control key, also for its own replacement; in the application it is the
// card control key for the application control key, and the application control key for every other key.
func (c *Card) writeKey(cmd command) ([]byte, status) {
	if cmd.p1 != 0 || cmd.p2 != 0 {
		return nil, swWrongP1P2
	}
	// Which key protects the command depends on the usage, which is inside the cipher; parentKey finds it by the MAC.
	parent, sw := c.parentKey(cmd)
	if sw != swOK {
		return nil, sw
	}
	sealed, sw := c.unwrapMAC(cmd, parent)
	if sw != swOK {
		return nil, sw
	}
	if len(sealed)%parent.Alg.blockSize() != 0 {
		return nil, swWrongLength
	}
	plain, err := decipher(parent.Alg, parent.Value, sealed)
	if err != nil {
		return nil, swInternal
	}
	record, sw := readKeyBlock(plain, parent.Alg.blockSize())
	if sw != swOK {
		return nil, sw
	}
	record.DF = c.session.df
	if sw := c.allowed(record, parent); sw != swOK {
		return nil, sw
	}
	c.mem.putKey(record)
	c.dirty = true
	if record.Usage == usageTMK {
		// Work keys came under the old master key; with a new one they are nobody's.
		c.mem.Work = nil
		c.session.staged = nil
	}
	return nil, swOK
}

// parentKey chooses the control key of a WRITE KEY: in the application the one whose MAC fits. When none fits, the
// application control key (or without one, the card control key) takes the blame and loses a try.
func (c *Card) parentKey(cmd command) (*keyRecord, status) {
	cardControl := c.mem.controlKey(masterFile)
	if c.session.df == masterFile {
		return cardControl, swOK
	}
	appControl := c.mem.controlKey(c.session.df)
	if appControl == nil {
		return cardControl, swOK
	}
	if cmd.challenge == nil {
		return nil, swNoChallenge
	}
	// A trial works on copies: it must cost no try of either key.
	trial := *cardControl
	dirty := c.dirty
	_, sw := c.unwrapMAC(cmd, &trial)
	c.dirty = dirty
	if sw == swOK {
		return cardControl, swOK
	}
	return appControl, swOK
}

// allowed keeps the hierarchy: the application control key comes under the card control key and nothing else does, in
// the application; a terminal master key lives only in the application.
func (c *Card) allowed(record keyRecord, parent *keyRecord) status {
	if c.session.df == masterFile {
		if record.Usage != usageControl && record.Usage != usageMaintenance {
			return swWrongData
		}
		return swOK
	}
	if (record.Usage == usageControl) != (parent.DF == masterFile) {
		return swConditions
	}
	if record.Usage == usageTMK && record.ID != tmkTDES && record.ID != tmkSM4 {
		return swWrongData
	}
	return swOK
}

// readKeyBlock checks length byte and padding of LD | usage | id | algorithm | key | 80 00….
func readKeyBlock(plain []byte, block int) (keyRecord, status) {
	if len(plain) == 0 {
		return keyRecord{}, swWrongLength
	}
	ld := int(plain[0])
	if ld <= keyHeader || 1+ld > len(plain) || !slices.Equal(plain, pad80(plain[:1+ld], block)) {
		return keyRecord{}, swWrongData
	}
	body := plain[1 : 1+ld]
	record := keyRecord{Usage: body[0], ID: body[1], Alg: algorithm(body[2]), Tries: maxTries, Value: body[keyHeader:]}
	if len(record.Value) != record.Alg.keySize() {
		return keyRecord{}, swWrongData
	}
	// Twins: an SM4 terminal master key has the id 41, a triple DES one 01 (facts/psam.md §1.2, +40 for the SM4 twin).
	if record.Usage == usageTMK && (record.Alg == algSM4) != (record.ID == tmkSM4) {
		return keyRecord{}, swWrongData
	}
	if levels := record.Usage >> 5; record.Usage&usageTypeMask == usagePurchase && levels == 0 {
		return keyRecord{}, swWrongData
	}
	return record, swOK
}

// readKCV is 80 F6 usage id 04, ours: the first four bytes of the check value of a key of the current DF. It lets the
// issuer compare what the card holds with what the HSM derived.
func (c *Card) readKCV(cmd command) ([]byte, status) {
	if len(cmd.data) != 0 || (cmd.le != kcvSize && cmd.le != 256) {
		return nil, swWrongLength
	}
	key := c.mem.key(c.session.df, cmd.p1, cmd.p2)
	if key == nil {
		return nil, swKeyNotFound
	}
	full, err := checkValue(key.Alg, key.Value)
	if err != nil {
		return nil, swInternal
	}
	return full[:kcvSize], swOK
}
