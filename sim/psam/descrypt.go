package psam

// factorSize is the length of one diversification factor (facts/psam.md §1.1).
const factorSize = 8

// Bits of P1 of CIPHER DATA (facts/psam.md §3.3).
const (
	cipherMAC  byte = 0x01 // 1 = MAC, 0 = encipher
	cipherMore byte = 0x02 // more blocks follow
	cipherIV   byte = 0x04 // the first 8 data bytes are the start value
	cipherAll       = cipherMAC | cipherMore | cipherIV
)

// tempKey is the temporary key register: the key that INIT_FOR_DESCRYPT derived, with its type, until power off, a
// change of DF or the next INIT_FOR_DESCRYPT.
type tempKey struct {
	usage byte // type in the low 5 bits
	alg   algorithm
	value []byte
	mac   []byte // running value of a MAC over several commands, nil when none runs
}

// initForDescrypt is 80 1A usage id Lc factors (facts/psam.md §3.3): it derives a temporary key for the types MAC,
// encrypt and both. The terminal master key is not among them: a key that unwraps keys must not encipher anything that
// a terminal chooses.
func (c *Card) initForDescrypt(cmd command) ([]byte, status) {
	c.session.temp = nil
	switch cmd.p1 & usageTypeMask {
	case usageMAC, usageEncrypt, usageBoth:
	default:
		return nil, swConditions
	}
	key := c.mem.key(c.session.df, cmd.p1, cmd.p2)
	if key == nil {
		return nil, swKeyNotFound
	}
	levels := int(cmd.p1 >> 5)
	if len(cmd.data) != levels*factorSize {
		return nil, swWrongLength
	}
	child, sw := derive(key, cmd.data, c.mem.Profile.LastFactorFirst)
	if sw != swOK {
		return nil, sw
	}
	c.session.temp = &tempKey{usage: cmd.p1 & usageTypeMask, alg: key.Alg, value: child}
	return nil, swOK
}

// derive applies the factors one after another.
func derive(key *keyRecord, factors []byte, lastFirst bool) ([]byte, status) {
	child := key.Value
	count := len(factors) / factorSize
	for i := range count {
		at := i
		if lastFirst {
			at = count - 1 - i
		}
		next, err := diversify(key.Alg, child, factors[at*factorSize:(at+1)*factorSize])
		if err != nil {
			// A single DES key cannot be diversified into 16 bytes.
			return nil, swConditions
		}
		child = next
	}
	return child, swOK
}

// cipherData is 80 FA P1 00 Lc data (facts/psam.md §3.3). The caller pads. Enciphering is ECB; a MAC is algorithm 3 for
// triple DES, its answer 4 bytes after the last block.
func (c *Card) cipherData(cmd command) ([]byte, status) {
	temp := c.session.temp
	switch {
	case temp == nil:
		return nil, swConditions
	case cmd.p1&^cipherAll != 0 || cmd.p2 != 0:
		return nil, swWrongP1P2
	case len(cmd.data) == 0:
		return nil, swWrongLength
	}
	isMAC := cmd.p1&cipherMAC != 0
	if isMAC && temp.usage == usageEncrypt || !isMAC && temp.usage == usageMAC {
		return nil, swConditions
	}
	if isMAC {
		return temp.cipherMAC(cmd)
	}
	if cmd.p1&cipherIV != 0 {
		// No source describes enciphering with a start value.
		return nil, swWrongP1P2
	}
	out, err := encipher(temp.alg, temp.value, cmd.data)
	if err != nil {
		return nil, swWrongLength
	}
	return out, swOK
}

func (t *tempKey) cipherMAC(cmd command) ([]byte, status) {
	const ivSize, macSize = 8, 4
	data := cmd.data
	state := t.mac
	t.mac = nil
	if cmd.p1&cipherIV != 0 {
		if len(data) <= ivSize {
			return nil, swWrongLength
		}
		state = make([]byte, t.alg.blockSize())
		copy(state, data[:ivSize])
		data = data[ivSize:]
	}
	if state == nil {
		return nil, swConditions
	}
	state, err := cbcChain(t.alg, t.value, state, data)
	if err != nil {
		return nil, swWrongLength
	}
	if cmd.p1&cipherMore != 0 {
		t.mac = state
		return nil, swOK
	}
	mac, err := finishMAC(t.alg, t.value, state)
	if err != nil {
		return nil, swInternal
	}
	return mac[:macSize], swOK
}
