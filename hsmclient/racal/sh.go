package racal

import (
	"context"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/keys"
)

const (
	// cmdSH exports a key for a card: mode 2N · protecting type 3H · protecting key · exported type 3H · exported key · header
	// length 2H · header · padding 2N · MAC algorithm 2N · MAC take 2H · MAC padding 2N · IV · MAC header length 2H · MAC
	// header → cipher length 4H · cipher, hex · MAC, hex (docs/hsm-sim.md §5.3, assumed from facts/hsm.md §1.7.3).
	cmdSH = "SH"

	shECB         = "00"
	shPad80       = "01"
	shRetailMAC   = "03" // ISO 9797-1 algorithm 3, 3DES
	shCBCMAC      = "01" // SM4
	shTake4       = "04" // a card takes 4 bytes
	shHeaderLen   = 4    // LD, usage, version, algorithm (facts/psam.md §3.2)
	maxMACHeader  = 16
	shRequestLen  = 384
	cardKeyLength = 16
)

// ExportForCard implements driver.CardExporter with SH.
func (d *Driver) ExportForCard(ctx context.Context, on driver.Conversation, req command.CardExport) (command.CardScript, error) {
	if err := d.checkExport(req); err != nil {
		return command.CardScript{}, err
	}
	answer, err := on.Exchange(ctx, d.requestSH(req))
	if err != nil {
		return command.CardScript{}, err
	}
	block := blockBytes(req.Control.Algorithm)
	// 80 and zeros are always added, so there is always room for one byte more.
	cipherLen := (shHeaderLen + cardKeyLength + block) / block * block
	return parseSI(answer, cipherLen)
}

func (d *Driver) checkExport(req command.CardExport) error {
	if err := d.checkKey(cmdSH, "the control key", req.Control, keys.CardControl); err != nil {
		return err
	}
	if err := d.checkKey(cmdSH, "the exported key", req.Key, keys.TerminalMaster, keys.CardControl); err != nil {
		return err
	}
	block := blockBytes(req.Control.Algorithm)
	switch {
	case req.Control.Algorithm != keys.TDES && req.Control.Algorithm != keys.SM4:
		return refusal(cmdSH, "a %s key cannot be a card's control key", req.Control.Algorithm)
	case req.Key.Algorithm != req.Control.Algorithm:
		return refusal(cmdSH, "a %s key cannot be exported under a %s control key", req.Key.Algorithm, req.Control.Algorithm)
	case isTriple(req.Control.Cryptogram) || isTriple(req.Key.Cryptogram):
		return refusal(cmdSH, "card keys have %d bytes", cardKeyLength)
	case len(req.Header) != shHeaderLen:
		return refusal(cmdSH, "the header has %d bytes, want %d", len(req.Header), shHeaderLen)
	case len(req.MACHeader) > maxMACHeader:
		return refusal(cmdSH, "the MAC header has %d bytes, want at most %d", len(req.MACHeader), maxMACHeader)
	case len(req.IV) != block:
		return refusal(cmdSH, "the IV has %d bytes, want the card's challenge filled with zeros to %d", len(req.IV), block)
	}
	return nil
}

// isTriple says that a cryptogram shows a key of three parts; of a key block or a stored key only the device knows.
func isTriple(cryptogram string) bool { return len(cryptogram) == 1+48 }

func (d *Driver) requestSH(req command.CardExport) []byte {
	mac := shRetailMAC
	if req.Control.Algorithm == keys.SM4 {
		mac = shCBCMAC
	}
	request := make([]byte, 0, shRequestLen)
	request = append(request, cmdSH+shECB...)
	request = append(request, d.form.typeOf(req.Control.Usage)...)
	request = append(request, req.Control.Cryptogram...)
	request = append(request, d.form.typeOf(req.Key.Usage)...)
	request = append(request, req.Key.Cryptogram...)
	request = append2H(request, len(req.Header))
	request = appendHex(request, req.Header)
	request = append(request, shPad80...)
	request = append(request, mac...)
	request = append(request, shTake4+shPad80...)
	request = appendHex(request, req.IV)
	request = append2H(request, len(req.MACHeader))
	return appendHex(request, req.MACHeader)
}

func parseSI(answer []byte, cipherLen int) (command.CardScript, error) {
	f, err := open(cmdSH, answer)
	if err != nil {
		return command.CardScript{}, err
	}
	if got := f.number(4, 16, "the cipher length"); f.err == nil && got != cipherLen {
		f.fail("the cipher length is %d, want %d", got, cipherLen)
	}
	script := command.CardScript{Cipher: f.hex(cipherLen, "the cipher"), MAC: f.hex(halfMAC, "the MAC")}
	if err := f.end(); err != nil {
		return command.CardScript{}, err
	}
	return script, nil
}
