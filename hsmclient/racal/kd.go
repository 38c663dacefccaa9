package racal

import (
	"context"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/keys"
)

const (
	// cmdKD diversifies: source type 3H · source key · destination type 3H · destination scheme 1A · mode 1H · levels 2H ·
	// factors 16H each · [attributes] → key(LMK) · KCV 16H (facts/hsm.md §1.7.3; widths assumed in docs/hsm-sim.md §5.3).
	cmdKD = "KD"

	kdPBOC       = '0' // 8-byte factors, child = E(F) · E(NOT F)
	maxLevels    = 8
	kdFieldsLen  = 192
	factorDigits = 16
)

// Diversify implements driver.Diversifier with KD. The child's Version is left 0 for the caller to set.
func (d *Driver) Diversify(ctx context.Context, on driver.Conversation, req command.Diversification) (keys.Wrapped, error) {
	if err := d.checkKey(cmdKD, "the root key", req.Root, keys.Root); err != nil {
		return keys.Wrapped{}, err
	}
	if req.Usage != keys.TerminalMaster && req.Usage != keys.CardControl {
		return keys.Wrapped{}, refusal(cmdKD, "a root key derives terminal master keys and card control keys, not keys for %s", req.Usage)
	}
	if req.Root.Algorithm != keys.TDES && req.Root.Algorithm != keys.SM4 {
		return keys.Wrapped{}, refusal(cmdKD, "a %s root key cannot be diversified", req.Root.Algorithm)
	}
	if n := len(req.Factors); n == 0 || n > maxLevels {
		return keys.Wrapped{}, refusal(cmdKD, "%d factors were given, want 1 to %d", n, maxLevels)
	}
	answer, err := on.Exchange(ctx, d.requestKD(req))
	if err != nil {
		return keys.Wrapped{}, err
	}
	cryptogram, kcv, err := d.parseKE(answer, req.Usage, req.Root.Algorithm)
	if err != nil {
		return keys.Wrapped{}, err
	}
	return keys.Wrapped{Usage: req.Usage, Algorithm: req.Root.Algorithm, Domain: req.Root.Domain, Cryptogram: cryptogram, KCV: kcv}, nil
}

func (d *Driver) requestKD(req command.Diversification) []byte {
	request := make([]byte, 0, kdFieldsLen+factorDigits*len(req.Factors))
	request = append(request, cmdKD...)
	request = append(request, d.form.typeOf(keys.Root)...)
	request = append(request, req.Root.Cryptogram...)
	request = append(request, d.form.typeOf(req.Usage)...)
	request = append(request, d.form.scheme(req.Root.Algorithm), kdPBOC)
	request = append2H(request, len(req.Factors))
	for i := range req.Factors {
		request = appendHex(request, req.Factors[i][:])
	}
	return append(request, d.form.attributes(req.Usage, req.Root.Algorithm)...)
}

// parseKE takes parity advice as success: derived keys have no parity (facts/psam.md §1.1).
func (d *Driver) parseKE(answer []byte, usage keys.Usage, algorithm keys.Algorithm) (string, keys.KCV, error) {
	f, err := open(cmdKD, answer, codeVerify)
	if err != nil {
		return "", "", err
	}
	cryptogram := d.keyUnderLMK(&f, usage, algorithm, "the derived key")
	kcv := f.hexText(kcvDigits, "the check value")
	if err := f.end(); err != nil {
		return "", "", err
	}
	return cryptogram, keys.KCV(kcv), nil
}
