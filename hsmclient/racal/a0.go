package racal

import (
	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/keys"
)

const (
	// cmdA0 makes a working key: "1" make and export · type 3H · LMK scheme 1A · ";1" under a TMK · TMK · scheme 1A · [attributes] →
	// key(LMK) · key(TMK) · KCV 6H (facts/hsm.md §1.3; attributes docs/hsm-sim.md §9.3). Chinese boxes give 16H (facts/hsm.md §1.7.3).
	cmdA0 = "A0"

	a0Export     = "1"
	a0UnderTMK   = ";1"
	a0RequestLen = 192
)

func (d *Driver) requestA0(req command.WorkKey) []byte {
	request := make([]byte, 0, a0RequestLen)
	request = append(request, cmdA0+a0Export...)
	request = append(request, d.form.typeOf(req.Usage)...)
	request = append(request, d.form.scheme(req.Algorithm))
	request = append(request, a0UnderTMK...)
	request = append(request, req.Master.Cryptogram...)
	request = append(request, masterScheme(req.Algorithm))
	return append(request, d.form.attributes(req.Usage, req.Algorithm)...)
}

func (d *Driver) parseA1(answer []byte, usage keys.Usage, algorithm keys.Algorithm) (made, error) {
	f, err := open(cmdA0, answer)
	if err != nil {
		return made{}, err
	}
	m := made{
		cryptogram:  d.keyUnderLMK(&f, usage, algorithm, "the key under the LMK"),
		underMaster: f.keyBytes(algorithm),
		kcv:         f.checkValue(),
	}
	if err := f.end(); err != nil {
		return made{}, err
	}
	return m, nil
}
