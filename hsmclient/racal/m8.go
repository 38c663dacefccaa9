package racal

import "github.com/keyward/keyward/hsmclient/command"

// cmdM8 verifies a MAC: the fields of M6 and the MAC as 8H or 16H at the end → nothing; error 01 says that the MAC is
// wrong (facts/hsm.md §1.5).
const cmdM8 = "M8"

func (d *Driver) requestM8(in command.MACInput, expect []byte) []byte {
	request := make([]byte, 0, macFieldsLen+len(in.Data)+2*desMAC)
	size := byte(macSize16H)
	if len(expect) == halfMAC {
		size = macSize8H
	}
	return appendHex(d.appendMAC(append(request, cmdM8...), in, size), expect)
}

func parseM9(answer []byte) (bool, error) {
	f, err := open(cmdM8, answer)
	if hasCode(err, codeVerify) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := f.end(); err != nil {
		return false, err
	}
	return true, nil
}
