package racal

import (
	"context"
	"fmt"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/keys"
)

const (
	// cmdBW translates a key from the old LMK, which is in the device's key-change storage: type 2A · length flag 1A · key · ";" type 3H ·
	// ";" reserved 1A · LMK scheme 1A · KCV flag 1N · [attributes] → key(LMK) · KCV 16H (name facts/hsm.md §1.3, fields docs/hsm-sim.md
	// §9.5). Old keys may be of the other form than new ones.
	cmdBW = "BW"

	bwReserved = '0'
	bwWholeKCV = '0'
)

// TranslateLMK implements driver.LMKTranslator with BW. The setting old_domain says whose LMK the device holds as its old one.
func (d *Driver) TranslateLMK(ctx context.Context, on driver.Conversation, key keys.Wrapped, to string) (keys.Wrapped, error) {
	if d.oldDomain == "" {
		return keys.Wrapped{}, lacks(cmdBW, "the device has no old LMK: give the setting old_domain where it has one")
	}
	if key.Domain != d.oldDomain {
		return keys.Wrapped{}, refusal(cmdBW, "the key is of LMK domain %q, the device's old LMK is that of domain %q", key.Domain, d.oldDomain)
	}
	if key.Domain == to {
		return keys.Wrapped{}, refusal(cmdBW, "the key is in domain %q already", to)
	}
	old := d.oldForm(key)
	if old == nil {
		return keys.Wrapped{}, refusal(cmdBW, "the cryptogram has not the form of a %s key that this device can translate", key.Algorithm)
	}
	attributes := ""
	if _, fromBlock := old.(blockForm); !fromBlock {
		attributes = d.form.attributes(key.Usage, key.Algorithm)
	}
	request := fmt.Appendf(nil, cmdBW+longForm+"%c%s;%s;%c%c%c%s", old.lengthFlag(key), key.Cryptogram, old.typeOf(key.Usage),
		bwReserved, d.form.scheme(key.Algorithm), bwWholeKCV, attributes)
	answer, err := on.Exchange(ctx, request)
	if err != nil {
		return keys.Wrapped{}, err
	}
	cryptogram, kcv, err := d.parseBX(answer, key.Usage, key.Algorithm)
	if err != nil {
		return keys.Wrapped{}, err
	}
	if key.KCV != "" && !key.KCV.Matches(kcv) {
		return keys.Wrapped{}, refusal(cmdBW, "the key that came out has another check value than the key that went in: the device's old LMK is not that of domain %q", d.oldDomain)
	}
	return keys.Wrapped{Usage: key.Usage, Algorithm: key.Algorithm, Version: key.Version, Domain: to, Cryptogram: cryptogram, KCV: kcv}, nil
}

// oldForm is the form of a key under the old LMK: a variant one, or where the present LMK takes key blocks also a block. nil: neither.
func (d *Driver) oldForm(key keys.Wrapped) form {
	candidates := []form{variantForm{types: d.variantTypes()}}
	if _, ok := d.form.(blockForm); ok {
		candidates = append(candidates, blockForm{})
	}
	for _, f := range candidates {
		if key.Cryptogram != "" && f.typeOf(key.Usage) != "" && f.fits(key) {
			return f
		}
	}
	return nil
}

func (d *Driver) parseBX(answer []byte, usage keys.Usage, algorithm keys.Algorithm) (string, keys.KCV, error) {
	f, err := open(cmdBW, answer, codeVerify)
	if err != nil {
		return "", "", err
	}
	cryptogram := d.keyUnderLMK(&f, usage, algorithm, "the key under the present LMK")
	kcv := f.hexText(kcvDigits, "the check value")
	if err := f.end(); err != nil {
		return "", "", err
	}
	return cryptogram, keys.KCV(kcv), nil
}

// lacks is a request for what this device cannot do.
func lacks(cmd, format string, args ...any) error {
	return &command.Error{Class: command.NoLicence, Command: cmd, Err: fmt.Errorf(format, args...)}
}
