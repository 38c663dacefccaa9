//go:build cgo

package pkcs11

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyward/keyward/keys"
)

// checkDigits is the length of a check value in hex digits (command.Checker): the leading half of the CMAC over a block of zeros
// (X9.24-1:2017).
const checkDigits = 16

// aesBlock is the block and the whole MAC of AES in bytes.
const aesBlock = 16

// Mechanisms of this driver.
var (
	cmacMechanism = []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_CMAC, nil)}
	wrapMechanism = []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_KEY_WRAP, nil)}
	makeMechanism = []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_KEY_GEN, nil)}
)

// findObjects gives the handles of at most two secret keys, which is enough to see that there is none, one, or no telling which.
func (s *session) findObjects(label string, id []byte) (handles []p11.ObjectHandle, err error) {
	template := []*p11.Attribute{p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY), p11.NewAttribute(p11.CKA_LABEL, label)}
	if id != nil {
		template = append(template, p11.NewAttribute(p11.CKA_ID, id))
	}
	template = append(template, p11.NewAttribute(p11.CKA_TOKEN, true))
	if err := s.lib.ctx.FindObjectsInit(s.handle, template); err != nil {
		return nil, err
	}
	handles, _, err = s.lib.ctx.FindObjects(s.handle, 2)
	if end := s.lib.ctx.FindObjectsFinal(s.handle); err == nil {
		err = end
	}
	return handles, err
}

// findLMK finds the LMK key by its label.
func (s *session) findLMK() (p11.ObjectHandle, error) {
	handles, err := s.findObjects(s.cfg.lmkLabel, nil)
	switch {
	case err != nil:
		return 0, fmt.Errorf("look for the LMK key: %w", resultOf(err))
	case len(handles) == 0:
		return 0, fmt.Errorf("the token holds no secret key with the label %q: load the LMK key of the domain, or set lmk_label", s.cfg.lmkLabel)
	case len(handles) > 1:
		return 0, fmt.Errorf("the token holds more than one secret key with the label %q: give each its own label", s.cfg.lmkLabel)
	}
	return handles[0], nil
}

// useLMK finds the LMK key and checks it.
func (s *session) useLMK() (err error) {
	if s.lmk, err = s.findLMK(); err != nil {
		return err
	}
	return s.checkLMK()
}

// checkLMK refuses an LMK key that could leave the token, or be used to decipher what it wraps as if it were data.
func (s *session) checkLMK() error {
	want := []struct {
		attribute uint
		value     bool
		name      string
	}{
		{p11.CKA_SENSITIVE, true, "CKA_SENSITIVE"},
		{p11.CKA_EXTRACTABLE, false, "CKA_EXTRACTABLE"},
		{p11.CKA_ENCRYPT, false, "CKA_ENCRYPT"},
		{p11.CKA_DECRYPT, false, "CKA_DECRYPT"},
		{p11.CKA_UNWRAP, true, "CKA_UNWRAP"},
		{p11.CKA_SIGN, true, "CKA_SIGN"},
	}
	asked := []*p11.Attribute{p11.NewAttribute(p11.CKA_KEY_TYPE, nil), p11.NewAttribute(p11.CKA_VALUE_LEN, nil)}
	for _, w := range want {
		asked = append(asked, p11.NewAttribute(w.attribute, nil))
	}
	got, err := s.lib.ctx.GetAttributeValue(s.handle, s.lmk, asked)
	if err != nil {
		return fmt.Errorf("read the attributes of the LMK key %q: %w", s.cfg.lmkLabel, resultOf(err))
	}
	if len(got) != len(asked) {
		return errors.New("the token gave not the attributes of the LMK key that it was asked for")
	}
	if !slices.Equal(got[0].Value, number(p11.CKK_AES)) || !slices.Equal(got[1].Value, number(aes256)) {
		return fmt.Errorf("the LMK key %q is no AES-256 key", s.cfg.lmkLabel)
	}
	var bad []string
	for i, w := range want {
		if v := got[i+2].Value; len(v) != 1 || (v[0] != 0) != w.value {
			bad = append(bad, fmt.Sprintf("%s must be %t", w.name, w.value))
		}
	}
	if bad != nil {
		return fmt.Errorf("the LMK key %q has not the right attributes (%s): prepare it as docs/hsm-driver.md says", s.cfg.lmkLabel, strings.Join(bad, ", "))
	}
	return nil
}

// number is an attribute's number as the library writes it.
func number(n uint) []byte { return p11.NewAttribute(p11.CKA_VALUE_LEN, n).Value }

// cmac computes the whole CMAC over data.
func (s *session) cmac(key p11.ObjectHandle, data []byte) ([]byte, error) {
	if err := s.lib.ctx.SignInit(s.handle, cmacMechanism, key); err != nil {
		return nil, err
	}
	mac, err := s.lib.ctx.Sign(s.handle, data)
	if err != nil {
		return nil, err
	}
	if len(mac) != aesBlock {
		return nil, malformed(codeSign, "a MAC of %d bytes, want %d", len(mac), aesBlock)
	}
	return mac, nil
}

// checkValue is the check value of a key.
func (s *session) checkValue(key p11.ObjectHandle) (keys.KCV, error) {
	mac, err := s.cmac(key, make([]byte, aesBlock))
	if err != nil {
		return "", err
	}
	return keys.KCV(fmt.Sprintf("%X", mac))[:checkDigits], nil
}
