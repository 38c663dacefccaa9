package racal

import (
	"context"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/keys"
)

// made is what HA, HC and A0 answer.
type made struct {
	underMaster []byte   // key enciphered under the TMK, plain ECB
	cryptogram  string   // key under the LMK, scheme letter and hex
	kcv         keys.KCV // 6 digits where the command gives them, else ""
}

// MakeWorkKey implements driver.WorkKeyMaker with HC, HA or A0, and BU for the whole check value: the making commands give
// none or six digits, and the terminal is sent eight. Both go to the same device.
func (d *Driver) MakeWorkKey(ctx context.Context, on driver.Conversation, req command.WorkKey) (command.MadeKey, error) {
	cmd, request, err := d.requestWorkKey(req)
	if err != nil {
		return command.MadeKey{}, err
	}
	answer, err := on.Exchange(ctx, request)
	if err != nil {
		return command.MadeKey{}, err
	}
	var m made
	if cmd == cmdA0 {
		m, err = d.parseA1(answer, req.Usage, req.Algorithm)
	} else {
		m, err = parsePair(cmd, answer, req.Algorithm)
	}
	if err != nil {
		return command.MadeKey{}, err
	}
	key := keys.Wrapped{Usage: req.Usage, Algorithm: req.Algorithm, Domain: req.Master.Domain, Cryptogram: m.cryptogram}
	if key.KCV, err = d.CheckValue(ctx, on, key); err != nil {
		return command.MadeKey{}, err
	}
	if m.kcv != "" && !m.kcv.Matches(key.KCV) {
		return command.MadeKey{}, malformed(cmd, "its check value differs from that of %s", cmdBU)
	}
	return command.MadeKey{Key: key, UnderMaster: m.underMaster}, nil
}

func (d *Driver) requestWorkKey(req command.WorkKey) (cmd string, request []byte, err error) {
	cmd, ok := d.set.work[req.Usage]
	if !ok {
		return "", nil, refusal(cmdA0, "a key for %s is not a working key of a terminal", req.Usage)
	}
	if err := d.checkKey(cmd, "the terminal master key", req.Master, keys.TerminalMaster); err != nil {
		return "", nil, err
	}
	fits := req.Master.Algorithm == keys.TDES && (req.Algorithm == keys.DES || req.Algorithm == keys.TDES) ||
		req.Master.Algorithm == keys.SM4 && req.Algorithm == keys.SM4
	if !fits {
		return "", nil, refusal(cmd, "a %s working key cannot travel under a %s terminal master key", req.Algorithm, req.Master.Algorithm)
	}
	if cmd == cmdA0 {
		return cmd, d.requestA0(req), nil
	}
	return cmd, requestPair(cmd, req), nil
}

// requestPair is the form that HA and HC share: TMK · ";" · scheme under the TMK 1A · scheme under the LMK 1A · "0".
func requestPair(cmd string, req command.WorkKey) []byte {
	request := make([]byte, 0, 64)
	request = append(request, cmd...)
	request = append(request, req.Master.Cryptogram...)
	return append(request, ';', masterScheme(req.Algorithm), variantScheme(req.Algorithm), '0')
}

// parsePair reads what HA and HC answer: key under the TMK · key under the LMK.
func parsePair(cmd string, answer []byte, algorithm keys.Algorithm) (made, error) {
	f, err := open(cmd, answer)
	if err != nil {
		return made{}, err
	}
	m := made{
		underMaster: f.keyBytes(algorithm),
		cryptogram:  f.key(variantScheme(algorithm), "the key under the LMK"),
	}
	if err := f.end(); err != nil {
		return made{}, err
	}
	return m, nil
}

// keyBytes reads a key under the TMK and gives its bytes without the scheme letter.
func (f *fields) keyBytes(algorithm keys.Algorithm) []byte {
	const what = "the key under the terminal master key"
	if scheme := masterScheme(algorithm); scheme != schemeSingle {
		if letter := f.take(1, what); letter != nil && letter[0] != scheme {
			f.fail("%s is not of the scheme asked for", what)
		}
	}
	return f.hex(keyBytes(algorithm), what)
}
