package racal

import (
	"context"
	"fmt"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/keys"
)

// cmdA8 exports a key: type 3H · ZMK · key(LMK) · scheme under the ZMK 1A → key(ZMK) · KCV 6H (facts/hsm.md §1.3).
const cmdA8 = "A8"

// zoneForm is how keys leave under a zone master key.
type zoneForm int

// The forms, in the order of the setting zone_form's choices.
const (
	zoneVariant zoneForm = iota // scheme U with the variants of the scheme: what variant LMKs take
	zonePlain                   // scheme X, plain ECB
	zoneTR31                    // a TR-31 key block, which key-block LMKs take
)

// scheme is the letter to ask for. SM4 keys have one form only (docs/hsm-sim.md §2).
func (z zoneForm) scheme(a keys.Algorithm) byte {
	switch {
	case a == keys.SM4:
		return schemeSM4
	case z == zoneTR31:
		return schemeTR31
	case a == keys.TDES && z == zonePlain:
		return schemePlain
	}
	return variantScheme(a)
}

// ExportUnderZMK implements driver.ZoneExchanger with A8. Root keys and zone master keys never leave.
func (d *Driver) ExportUnderZMK(ctx context.Context, on driver.Conversation, zmk, key keys.Wrapped) (command.ZoneKey, error) {
	if err := d.checkZone(cmdA8, zmk, key.Usage, key.Algorithm); err != nil {
		return command.ZoneKey{}, err
	}
	if err := d.checkKey(cmdA8, "the key to export", key); err != nil {
		return command.ZoneKey{}, err
	}
	scheme := d.zone.scheme(key.Algorithm)
	request := fmt.Appendf(nil, cmdA8+"%s%s%s%c", d.form.typeOf(key.Usage), zmk.Cryptogram, key.Cryptogram, scheme)
	answer, err := on.Exchange(ctx, request)
	if err != nil {
		return command.ZoneKey{}, err
	}
	cipher, kcv, err := d.parseA9(answer, key.Algorithm)
	if err != nil {
		return command.ZoneKey{}, err
	}
	if key.KCV != "" && !kcv.Matches(key.KCV) {
		return command.ZoneKey{}, refusal(cmdA8, "the check value that goes with the key is not that of its cryptogram")
	}
	if len(key.KCV) > len(kcv) {
		kcv = key.KCV
	}
	return command.ZoneKey{Usage: key.Usage, Algorithm: key.Algorithm, Version: key.Version, Cipher: cipher, KCV: kcv}, nil
}

// checkZone refuses what must not or cannot travel under the ZMK.
func (d *Driver) checkZone(cmd string, zmk keys.Wrapped, usage keys.Usage, algorithm keys.Algorithm) error {
	if err := d.checkKey(cmd, "the zone master key", zmk, keys.ZoneMaster); err != nil {
		return err
	}
	switch {
	case usage == keys.Root || usage == keys.ZoneMaster:
		return refusal(cmd, "a key for %s never travels under a zone master key: bring it by a key ceremony", usage)
	case (zmk.Algorithm == keys.SM4) != (algorithm == keys.SM4):
		return refusal(cmd, "a %s key cannot travel under a %s zone master key", algorithm, zmk.Algorithm)
	}
	return nil
}

func (d *Driver) parseA9(answer []byte, algorithm keys.Algorithm) (string, keys.KCV, error) {
	f, err := open(cmdA8, answer)
	if err != nil {
		return "", "", err
	}
	var cipher string
	if d.zone == zoneTR31 && algorithm != keys.SM4 {
		cipher = f.block(schemeTR31, "the TR-31 block")
	} else {
		cipher = f.key(d.zone.scheme(algorithm), "the key under the zone master key")
	}
	kcv := f.checkValue()
	if err := f.end(); err != nil {
		return "", "", err
	}
	return cipher, kcv, nil
}
