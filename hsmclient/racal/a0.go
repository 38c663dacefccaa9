package racal

import (
	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/keys"
)

const (
	// cmdA0 makes a track key: "1" make and export · type 3H · LMK scheme 1A · ";1" under a TMK · TMK · scheme 1A →
	// key(LMK) · key(TMK) · KCV 6H (facts/hsm.md §1.3).
	cmdA0 = "A0"

	a0Export     = "1"
	a0UnderTMK   = ";1"
	a0KCVDigits  = 6
	a0RequestLen = 64
)

func (d *Driver) requestA0(req command.WorkKey) []byte {
	request := make([]byte, 0, a0RequestLen)
	request = append(request, cmdA0+a0Export...)
	request = append(request, d.typeOf(req.Usage)...)
	request = append(request, lmkScheme(req.Algorithm))
	request = append(request, a0UnderTMK...)
	request = append(request, req.Master.Cryptogram...)
	return append(request, masterScheme(req.Algorithm))
}

func parseA1(answer []byte, algorithm keys.Algorithm) (made, error) {
	f, err := open(cmdA0, answer)
	if err != nil {
		return made{}, err
	}
	m := made{
		cryptogram:  f.key(lmkScheme(algorithm), "the key under the LMK"),
		underMaster: f.keyBytes(algorithm),
		kcv:         keys.KCV(f.hexText(a0KCVDigits, "the check value")),
	}
	if err := f.end(); err != nil {
		return made{}, err
	}
	return m, nil
}
