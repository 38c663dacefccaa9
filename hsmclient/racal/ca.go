package racal

import "github.com/keyward/keyward/hsmclient/command"

const (
	// cmdCA translates from a terminal's PIN key to a zone's: TPK · ZPK · max PIN length 2N · block 16H · source format 2N ·
	// destination format 2N · PAN 12N → PIN length 2N · block 16H · destination format 2N (facts/hsm.md §1.4).
	cmdCA = "CA"

	caRequestLen = 320
)

// requestCA writes CA and CC, which differ in the type of the source key only.
func requestCA(cmd string, req command.PINTranslation) []byte {
	request := make([]byte, 0, caRequestLen)
	request = append(request, cmd...)
	request = append(request, req.From.Cryptogram...)
	request = append(request, req.To.Cryptogram...)
	request = append(request, maxPINLength...)
	request = appendHex(request, req.Block.Reveal())
	request = append(request, pinFormatCodes[req.FromFormat].code...)
	request = append(request, pinFormatCodes[req.ToFormat].code...)
	return appendPAN(request, req.PAN)
}
