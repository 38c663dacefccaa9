package racal

import (
	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/keys"
)

const (
	// cmdTI translates where SM4 is on either side: source type 1N · source key · destination type 1N · destination key · max
	// PIN length 2N · block · source format 2N · source PAN 12N · destination format 2N · destination PAN 12N → as CA
	// (facts/hsm.md §1.7.3; widths assumed in docs/hsm-sim.md §5.4).
	cmdTI = "TI"

	tiFromTerminal = '1' // TPK
	tiZone         = '2' // ZPK
	tiRequestLen   = 384
)

func requestTI(req command.PINTranslation) []byte {
	request := make([]byte, 0, tiRequestLen)
	request = append(request, cmdTI...)
	if req.From.Usage == keys.PINKey {
		request = append(request, tiFromTerminal)
	} else {
		request = append(request, tiZone)
	}
	request = append(request, req.From.Cryptogram...)
	request = append(request, tiZone)
	request = append(request, req.To.Cryptogram...)
	request = append(request, maxPINLength...)
	request = appendHex(request, req.Block.Reveal())
	request = append(request, pinFormatCodes[req.FromFormat].code...)
	request = appendPAN(request, req.PAN)
	request = append(request, pinFormatCodes[req.ToFormat].code...)
	return appendPAN(request, req.PAN)
}
