package racal

import (
	"context"
	"fmt"
	"hash/fnv"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/keys"
)

const (
	// cmdKR makes a key that stays: type 3H · scheme 1A · [attributes] · "K" · index 4N · label length 2N · label → key(LMK) · KCV 16H
	// (facts/hsm.md §1.7.3). Code 21 says that the place is in use (docs/hsm-sim.md §9.6).
	cmdKR = "KR"

	codeInUse = "21"
	maxLabel  = 32
	// storeTries bounds the search for an empty place: with half of all places in use, one search in four thousand million needs more.
	storeTries = 32
)

// StoreKey implements driver.KeyStorer with KR. The place follows from the label, and from there on the next empty one, so that the
// same label is found again; KG looks before KR writes.
func (d *Driver) StoreKey(ctx context.Context, on driver.Conversation, req command.NewKey) (keys.Wrapped, error) {
	if !d.set.stores {
		return keys.Wrapped{}, lacks(cmdKR, "the device's set of commands keeps no keys")
	}
	if err := d.checkNewKey(req); err != nil {
		return keys.Wrapped{}, err
	}
	index := firstPlace(req.Label)
	for range storeTries {
		label, taken, err := labelAt(ctx, on, index)
		switch {
		case err != nil:
			return keys.Wrapped{}, err
		case taken && label == req.Label:
			return keys.Wrapped{}, refusal(cmdKR, "the device keeps a key with label %q already, in place %d", req.Label, index)
		case !taken:
			key, err := d.storeAt(ctx, on, index, req)
			if !hasCode(err, codeInUse) { // another was quicker: nothing was stored
				return key, err
			}
		}
		index = index%lastIndex + 1
	}
	return keys.Wrapped{}, refusal(cmdKR, "no empty place was found for label %q in %d places: the user storage is full", req.Label, storeTries)
}

// firstPlace is where the search for a label begins.
func firstPlace(label string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(label)) // never fails
	return int(h.Sum32()%lastIndex) + 1
}

func (d *Driver) checkNewKey(req command.NewKey) error {
	if n := len(req.Label); n == 0 || n > maxLabel {
		return refusal(cmdKR, "the label has %d characters, want 1 to %d", n, maxLabel)
	}
	for i := range len(req.Label) {
		if c := req.Label[i]; c <= ' ' || c > '~' {
			return refusal(cmdKR, "the label has characters other than letters, digits and signs")
		}
	}
	if d.form.typeOf(req.Usage) == "" {
		return refusal(cmdKR, "keys for %s have no type code", req.Usage)
	}
	if variantScheme(req.Algorithm) == 0 {
		return refusal(cmdKR, "the device does not know %s keys", req.Algorithm)
	}
	return nil
}

func (d *Driver) storeAt(ctx context.Context, on driver.Conversation, index int, req command.NewKey) (keys.Wrapped, error) {
	place := fmt.Sprintf("%c%0*d", schemeStored, indexDigits, index)
	scheme := d.form.scheme(req.Algorithm)
	request := fmt.Appendf(nil, cmdKR+"%s%c%s%s%02d%s", d.form.typeOf(req.Usage), scheme, d.form.attributes(req.Usage, req.Algorithm),
		place, len(req.Label), req.Label)
	answer, err := on.Exchange(ctx, request)
	if err != nil {
		return keys.Wrapped{}, err
	}
	kcv, err := parseKS(answer, scheme)
	if err != nil {
		return keys.Wrapped{}, err
	}
	return keys.Wrapped{Usage: req.Usage, Algorithm: req.Algorithm, Cryptogram: place, KCV: kcv}, nil
}

// parseKS leaves the cryptogram in the answer aside: the key is in the device.
func parseKS(answer []byte, scheme byte) (keys.KCV, error) {
	f, err := open(cmdKR, answer)
	if err != nil {
		return "", err
	}
	f.key(scheme, "the key under the LMK")
	kcv := f.hexText(kcvDigits, "the check value")
	if err := f.end(); err != nil {
		return "", err
	}
	return keys.KCV(kcv), nil
}
