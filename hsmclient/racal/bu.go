package racal

import (
	"context"

	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/keys"
)

const (
	cmdBU = "BU" // type 2A · length flag 1N · key · [";" type 3H, with FF] · ";00" · KCV flag 1N → KCV 16H (facts/hsm.md §1.3)

	buLongForm  = "FF"   // the type stands in three digits behind the key
	buWholeKCV  = ";000" // two reserved digits and flag 0: 16 digits
	kcvDigits   = 16
	rootKeyType = "011" // without its middle digit it would read like 001 (docs/hsm-sim.md §5.2)
)

// CheckValue implements driver.Checker with BU.
func (d *Driver) CheckValue(ctx context.Context, on driver.Conversation, key keys.Wrapped) (keys.KCV, error) {
	if err := checkKey(cmdBU, "the key", key); err != nil {
		return "", err
	}
	request, err := d.requestBU(key)
	if err != nil {
		return "", err
	}
	answer, err := on.Exchange(ctx, request)
	if err != nil {
		return "", err
	}
	return parseBV(answer)
}

func (d *Driver) requestBU(key keys.Wrapped) ([]byte, error) {
	keyType := d.typeOf(key.Usage)
	if keyType == "" {
		return nil, refusal(cmdBU, "keys for %s have no type code", key.Usage)
	}
	request := make([]byte, 0, 72)
	request = append(request, cmdBU...)
	if keyType == rootKeyType {
		request = append(request, buLongForm...)
	} else {
		request = append(request, keyType[0], keyType[2])
	}
	request = append(request, lengthFlag(key.Cryptogram))
	request = append(request, key.Cryptogram...)
	if keyType == rootKeyType {
		request = append(append(request, ';'), keyType...)
	}
	return append(request, buWholeKCV...), nil
}

// lengthFlag is 0, 1 or 2 for a key of 8, 16 or 24 bytes.
func lengthFlag(cryptogram string) byte {
	switch {
	case len(cryptogram) <= 17:
		return '0'
	case len(cryptogram) == 33:
		return '1'
	}
	return '2'
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
