package psam

import "slices"

// Ids of the terminal master keys: the SM4 twin is +40 (facts/psam.md §1.2).
const (
	tmkTDES byte = 0x01
	tmkSM4  byte = 0x41
)

// Records of the work keys (facts/psam.md §4, Landi layout).
const (
	recordPIN   byte = 11
	recordMAC   byte = 12
	recordTrack byte = 13
)

// Steps of WORK KEY SET, P1.
const (
	setBegin  byte = 0x00
	setCommit byte = 0x01
	setAbort  byte = 0x02
)

// stagedSet is a set of work keys that is being presented and is not in use yet.
type stagedSet struct {
	tmk  *keyRecord
	keys []workKey
	bad  bool // a presented key failed its check
}

// workKeySet is 80 F8 step tmk-id, ours: 00 begins a set under a terminal master key, 01 makes the staged set the
// current one, 02 forgets it. A commit replaces the whole old set, so that keys of two sign-ons never mix; it is
// refused unless PIN and MAC key are there and every presented key was right.
func (c *Card) workKeySet(cmd command) ([]byte, status) {
	staged := c.session.staged
	c.session.staged = nil
	switch {
	case len(cmd.data) != 0 || cmd.le > 0:
		return nil, swWrongLength
	case c.session.df != application:
		return nil, swConditions
	}
	switch cmd.p1 {
	case setBegin:
		key := c.mem.key(application, usageTMK, cmd.p2)
		if key == nil {
			return nil, swKeyNotFound
		}
		// A copy: the command that replaces the master key writes into the stored record.
		tmk := *key
		c.session.staged = &stagedSet{tmk: &tmk}
		return nil, swOK
	case setCommit:
		if staged == nil || staged.bad || !staged.has(recordPIN) || !staged.has(recordMAC) {
			return nil, swConditions
		}
		c.mem.Work = staged.keys
		c.dirty = true
		return nil, swOK
	case setAbort:
		return nil, swOK
	default:
		return nil, swWrongP1P2
	}
}

func (s *stagedSet) has(record byte) bool {
	return slices.ContainsFunc(s.keys, func(k workKey) bool { return k.Record == record })
}

// updateRecord is 00 DC record 04 Lc cipher KCV4 (facts/psam.md §4): 16 bytes cipher, or 8 for a single-length DES key,
// under the terminal master key in ECB, then the first 4 bytes of the check value, or 3 under SM4 (facts/unionpay.md §3, "57 SM4"). A wrong check value answers 9302,
// spoils the set and leaves the keys in use as they are.
func (c *Card) updateRecord(cmd command) ([]byte, status) {
	staged := c.session.staged
	switch {
	case cmd.p2 != 0x04:
		return nil, swWrongP1P2
	case c.session.df != application || staged == nil:
		return nil, swConditions
	case cmd.p1 < recordPIN || cmd.p1 > recordTrack:
		return nil, swRecordNotFound
	}
	alg, size := staged.tmk.Alg, len(cmd.data)-kcvSize
	if alg == algSM4 && len(cmd.data) == algSM4.keySize()+shortKCV {
		size = algSM4.keySize()
	}
	switch {
	case size == algTDES.keySize():
	case size == algDES.keySize() && alg == algTDES:
		alg = algDES
	default:
		return nil, swWrongLength
	}
	sealed, check := cmd.data[:size], cmd.data[size:]
	value, err := decipher(staged.tmk.Alg, staged.tmk.Value, sealed)
	if err != nil {
		return nil, swInternal
	}
	if !kcvMatches(alg, value, check) {
		staged.bad = true
		return nil, swCheckWrong
	}
	staged.keys = slices.DeleteFunc(staged.keys, func(k workKey) bool { return k.Record == cmd.p1 })
	staged.keys = append(staged.keys, workKey{Record: cmd.p1, Alg: alg, Value: value})
	return nil, swOK
}

// Kinds of entries in the answer of READ STATUS.
const (
	statusMaster byte = 'M' // terminal master key: usage, id
	statusWork   byte = 'W' // work key: record, key length
)

// readStatus is 80 CE 00 00 00, ours: 8 bytes for each terminal master key and each work key in use: kind 1 ('M' or
// 'W') | usage or record 1 | id or key length 1 | algorithm 1 | KCV 4. No key and nothing that helps to find one.
func (c *Card) readStatus(cmd command) ([]byte, status) {
	switch {
	case cmd.p1 != 0 || cmd.p2 != 0:
		return nil, swWrongP1P2
	case len(cmd.data) != 0 || cmd.le != 256:
		return nil, swWrongLength
	case c.session.df != application:
		return nil, swConditions
	}
	var out []byte
	for _, k := range c.mem.Keys {
		if k.Usage == usageTMK {
			out = appendStatus(out, statusMaster, k.Usage, k.ID, k.Alg, k.Value)
		}
	}
	for _, k := range c.mem.Work {
		out = appendStatus(out, statusWork, k.Record, byte(len(k.Value)), k.Alg, k.Value)
	}
	return out, swOK
}

func appendStatus(out []byte, kind, a, b byte, alg algorithm, value []byte) []byte {
	kcv, err := checkValue(alg, value)
	if err != nil {
		return out
	}
	return append(append(out, kind, a, b, byte(alg)), kcv[:kcvSize]...)
}
