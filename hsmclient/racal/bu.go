package racal

import (
	"context"

	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/keys"
)

const (
	cmdBU = "BU" // type 2A · length flag 1A · key · [";" type 3H, with FF] · ";00" · KCV flag 1N → KCV 16H (facts/hsm.md §1.3)

	longForm    = "FF"   // the type stands in three digits behind the key
	buWholeKCV  = ";000" // two reserved digits and flag 0: 16 digits
	rootKeyType = "011"  // without its middle digit it would read like 001 (docs/hsm-sim.md §5.2)
)

// CheckValue implements driver.Checker with BU.
func (d *Driver) CheckValue(ctx context.Context, on driver.Conversation, key keys.Wrapped) (keys.KCV, error) {
	if err := d.checkKey(cmdBU, "the key", key); err != nil {
		return "", err
	}
	answer, err := on.Exchange(ctx, d.requestBU(key))
	if err != nil {
		return "", err
	}
	return parseBV(answer)
}

func (d *Driver) requestBU(key keys.Wrapped) []byte {
	keyType := d.form.typeOf(key.Usage)
	long := keyType == rootKeyType || keyType == blockTypes
	request := make([]byte, 0, 160)
	request = append(request, cmdBU...)
	if long {
		request = append(request, longForm...)
	} else {
		request = append(request, keyType[0], keyType[2])
	}
	request = append(request, d.form.lengthFlag(key))
	request = append(request, key.Cryptogram...)
	if long {
		request = append(append(request, ';'), keyType...)
	}
	return append(request, buWholeKCV...)
}

// parseBV takes parity advice as success: the check value is right all the same.
func parseBV(answer []byte) (keys.KCV, error) {
	f, err := open(cmdBU, answer, codeVerify)
	if err != nil {
		return "", err
	}
	kcv := f.hexText(kcvDigits, "the check value")
	if err := f.end(); err != nil {
		return "", err
	}
	return keys.KCV(kcv), nil
}
