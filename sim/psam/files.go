package psam

import (
	"bytes"
	"crypto/subtle"
	"encoding/binary"
)

// DF names for SELECT by name. The master file's is of facts/psam.md §2.1; the application's is ours (proprietary AID).
var dfNames = map[fileID][]byte{
	masterFile:  []byte("1PAY.SYS.DDF01"),
	application: append([]byte{0xF0}, "KEYWARD"...),
}

// selectFile is 00 A4 00 00 02 FID or 00 A4 04 00 Lc name.
func (c *Card) selectFile(cmd command) ([]byte, status) {
	switch {
	case cmd.p2 != 0:
		return nil, swWrongP1P2
	case cmd.p1 == 0x04:
		for df, name := range dfNames {
			if bytes.Equal(name, cmd.data) {
				return c.enter(df), swOK
			}
		}
		return nil, swFileNotFound
	case cmd.p1 != 0x00 && cmd.p1 != 0x02:
		return nil, swWrongP1P2
	case len(cmd.data) != 2:
		return nil, swWrongLength
	}
	id := fileID(binary.BigEndian.Uint16(cmd.data))
	if _, isDF := dfNames[id]; isDF && cmd.p1 == 0x00 {
		return c.enter(id), swOK
	}
	if _, sw := c.content(id); sw != swOK {
		return nil, sw
	}
	c.session.ef = id
	return nil, swOK
}

// enter makes a DF the current one. A change of DF forgets the temporary key (facts/psam.md §3.3) and every command
// sequence that has begun.
func (c *Card) enter(df fileID) []byte {
	if df != c.session.df {
		c.session = session{}
	}
	c.session.df, c.session.ef = df, 0
	name := dfNames[df]
	// FCI template 6F with the DF name 84.
	return append([]byte{0x6F, byte(len(name) + 2), 0x84, byte(len(name))}, name...)
}

// content finds a file below the current DF. Files of the master file are read only while it is selected, as the
// files of an application are.
func (c *Card) content(id fileID) ([]byte, status) {
	home := application
	if id == cardInfo || id == terminalNo {
		home = masterFile
	}
	if c.session.df != home {
		return nil, swFileNotFound
	}
	if id == sequenceNo {
		return binary.BigEndian.AppendUint32(nil, c.mem.Sequence), swOK
	}
	content, ok := c.mem.Files[id]
	if !ok {
		return nil, swFileNotFound
	}
	return content, swOK
}

// locate reads P1 and P2 of a binary command: short file identifier and offset, or offset in the current file.
func (c *Card) locate(cmd command) (id fileID, offset int, sw status) {
	if cmd.p1&0x80 != 0 {
		// P1 = 80 | SFI: 95 is file 0015, 96 is 0016, 97 is 0017, 98 is 0018.
		if cmd.p1&0x60 != 0 {
			return 0, 0, swWrongP1P2
		}
		// 0015 has the short identifier 15h; both are read as the same digits.
		return fileID(cmd.p1 & 0x1F), int(cmd.p2), swOK
	}
	if c.session.ef == 0 {
		return 0, 0, swNoCurrentFile
	}
	return c.session.ef, int(cmd.p1)<<8 | int(cmd.p2), swOK
}

// readBinary is 00 B0 (80|SFI) offset Le or 00 B0 offset-high offset-low Le.
func (c *Card) readBinary(cmd command) ([]byte, status) {
	id, offset, sw := c.locate(cmd)
	if sw != swOK {
		return nil, sw
	}
	content, sw := c.content(id)
	switch {
	case sw != swOK:
		return nil, sw
	case len(cmd.data) != 0 || cmd.le < 0:
		return nil, swWrongLength
	case offset >= len(content):
		return nil, swWrongOffset
	}
	content = content[offset:]
	if cmd.le == 256 {
		return content, swOK
	}
	if cmd.le > len(content) {
		return nil, swWrongLe | status(len(content))
	}
	return content[:cmd.le], swOK
}

// updateBinary is 04 D6 (80|SFI) offset Lc data MAC4 under the maintenance key of the DF (facts/psam.md §2.1, §3.4).
func (c *Card) updateBinary(cmd command) ([]byte, status) {
	id, offset, sw := c.locate(cmd)
	if sw != swOK {
		return nil, sw
	}
	old, sw := c.content(id)
	switch {
	case sw != swOK:
		return nil, sw
	case id == sequenceNo || id == cardInfo && offset < psamNoDigits/2:
		// The sequence belongs to the card, and the serial number never changes after manufacture.
		return nil, swConditions
	}
	key := c.mem.key(c.session.df, usageMaintenance, 1)
	data, sw := c.unwrapMAC(cmd, key)
	switch {
	case sw != swOK:
		return nil, sw
	case offset+len(data) > len(old):
		return nil, swWrongOffset
	}
	fresh := bytes.Clone(old)
	copy(fresh[offset:], data)
	c.mem.Files[id] = fresh
	c.dirty = true
	return nil, swOK
}

// unwrapMAC checks the 4-byte MAC of a command under secure messaging and returns the data before it. The challenge is
// the start value. A wrong MAC costs the key one try, a right one restores them (facts/psam.md §3.2, §3.4).
func (c *Card) unwrapMAC(cmd command, key *keyRecord) ([]byte, status) {
	const macSize = 4
	switch {
	case key == nil:
		return nil, swKeyNotFound
	case key.Tries <= 0:
		return nil, swKeyLocked
	case cmd.challenge == nil:
		return nil, swNoChallenge
	case len(cmd.data) <= macSize:
		return nil, swWrongLength
	}
	data := cmd.data[:len(cmd.data)-macSize]
	input := append([]byte{cmd.cla, cmd.ins, cmd.p1, cmd.p2, byte(len(cmd.data))}, data...)
	mac, err := blockMAC(key.Alg, key.Value, cmd.challenge, pad80(input, key.Alg.blockSize()))
	if err != nil {
		return nil, swInternal
	}
	right := subtle.ConstantTimeCompare(mac[:macSize], cmd.data[len(data):]) == 1
	tries := maxTries
	if !right {
		tries = key.Tries - 1
	}
	if tries != key.Tries {
		key.Tries = tries
		c.dirty = true
	}
	if !right {
		return nil, swWrongMAC
	}
	return data, swOK
}
