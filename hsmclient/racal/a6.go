package racal

import (
	"context"
	"fmt"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/keys"
)

// cmdA6 imports a key: type 3H · ZMK · key(ZMK) · LMK scheme 1A · [attributes] → key(LMK) · KCV 6H; code 01 says that the parity was
// corrected and the key is there all the same (facts/hsm.md §1.3).
const cmdA6 = "A6"

// ImportUnderZMK implements driver.ZoneExchanger with A6, and BU for the whole check value.
func (d *Driver) ImportUnderZMK(ctx context.Context, on driver.Conversation, zmk keys.Wrapped, key command.ZoneKey) (keys.Wrapped, error) {
	if err := d.checkZone(cmdA6, zmk, key.Usage, key.Algorithm); err != nil {
		return keys.Wrapped{}, err
	}
	if err := d.checkZoneKey(key); err != nil {
		return keys.Wrapped{}, err
	}
	request := fmt.Appendf(nil, cmdA6+"%s%s%s%c%s", d.form.typeOf(key.Usage), zmk.Cryptogram, key.Cipher, d.form.scheme(key.Algorithm),
		d.form.attributes(key.Usage, key.Algorithm))
	answer, err := on.Exchange(ctx, request)
	if err != nil {
		return keys.Wrapped{}, err
	}
	cryptogram, kcv, err := d.parseA7(answer, key.Usage, key.Algorithm)
	if err != nil {
		return keys.Wrapped{}, err
	}
	in := keys.Wrapped{Usage: key.Usage, Algorithm: key.Algorithm, Version: key.Version, Domain: zmk.Domain, Cryptogram: cryptogram}
	if in.KCV, err = d.CheckValue(ctx, on, in); err != nil {
		return keys.Wrapped{}, err
	}
	if !kcv.Matches(in.KCV) {
		return keys.Wrapped{}, malformed(cmdA6, "its check value differs from that of %s", cmdBU)
	}
	if key.KCV != "" && !key.KCV.Matches(in.KCV) {
		return keys.Wrapped{}, refusal(cmdA6, "the key that came in has another check value than its sender gave: another zone master key, or a damaged cryptogram")
	}
	return in, nil
}

// checkZoneKey refuses a cryptogram that is neither scheme letter and hex nor, for a key-block LMK, a TR-31 block.
func (d *Driver) checkZoneKey(key command.ZoneKey) error {
	if d.form.typeOf(key.Usage) == "" {
		return refusal(cmdA6, "keys for %s have no type code", key.Usage)
	}
	plain := keys.Wrapped{Usage: key.Usage, Algorithm: key.Algorithm, Cryptogram: key.Cipher}
	if key.Cipher != "" && (variantForm{}).fits(plain) {
		return nil
	}
	_, blocks := d.form.(blockForm)
	if blocks && key.Algorithm != keys.SM4 && isTR31(key.Cipher) {
		return nil
	}
	return refusal(cmdA6, "the cryptogram under the zone master key has not the form of a %s key that this device takes (scheme letter and hex digits; with a key-block LMK also a TR-31 block)", key.Algorithm)
}

// isTR31 says that the text is "R" and a TR-31 block of the length that its header gives.
func isTR31(text string) bool {
	if len(text) < 1+minBlock || text[0] != schemeTR31 || !isAlnum(text) {
		return false
	}
	n, ok := decimal(text[2:6])
	return ok && n == len(text)-1
}

func (d *Driver) parseA7(answer []byte, usage keys.Usage, algorithm keys.Algorithm) (string, keys.KCV, error) {
	f, err := open(cmdA6, answer, codeVerify)
	if err != nil {
		return "", "", err
	}
	cryptogram, kcv := d.keyUnderLMK(&f, usage, algorithm, "the key under the LMK"), f.checkValue()
	if err := f.end(); err != nil {
		return "", "", err
	}
	return cryptogram, kcv, nil
}
