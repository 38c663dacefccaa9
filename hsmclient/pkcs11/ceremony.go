//go:build cgo

package pkcs11

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/keys"
)

// A ceremony prepares a token, before it is a member or beside its work. It is done by people with the PIN of the token, never by a
// service.
const codeSetAttribute = "C_SetAttributeValue"

var errCeremonyOver = errors.New("the ceremony is over")

// ceremony does one operation in a session of its own.
func ceremony[T any](ctx context.Context, path string, from map[string]string, code string, prepare func(*session) error, work func(*session) (T, error)) (T, error) {
	var none T
	s, err := parseSettings(from)
	if err != nil {
		return none, err
	}
	s.readOnly = false
	session, err := (&Driver{settings: s}).open(ctx, driver.Target{Addr: path}, prepare)
	if err != nil {
		return none, err
	}
	defer session.Close(errCeremonyOver)
	return call(ctx, session, code, 0, func() (T, error) { return work(session) })
}

// MakeLMK makes the LMK key of a domain in the token that library, a path, and settings name: a random AES-256 key that never leaves it. It
// serves tokens that copy their keys among each other by their maker's means; where they do not, load the same key into each of them and
// call RestrictLMK. The result is the LMK check value.
func MakeLMK(ctx context.Context, library string, settings map[string]string) (keys.KCV, error) {
	check, err := ceremony(ctx, library, settings, codeGenerate, func(*session) error { return nil }, func(s *session) (keys.KCV, error) {
		found, err := s.findObjects(s.cfg.lmkLabel, nil)
		if err != nil {
			return "", err
		}
		if len(found) > 0 {
			return "", refusal(codeGenerate, "the token holds a key of the label %q already: choose another, or take it out first", s.cfg.lmkLabel)
		}
		template := []*p11.Attribute{
			attribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY), attribute(p11.CKA_KEY_TYPE, p11.CKK_AES), attribute(p11.CKA_VALUE_LEN, aes256),
			attribute(p11.CKA_TOKEN, true), attribute(p11.CKA_PRIVATE, true), attribute(p11.CKA_LABEL, s.cfg.lmkLabel),
			attribute(p11.CKA_SENSITIVE, true), attribute(p11.CKA_EXTRACTABLE, false), attribute(p11.CKA_VERIFY, false), attribute(p11.CKA_DERIVE, false),
		}
		if _, err := s.lib.ctx.GenerateKey(s.handle, makeMechanism, append(template, lmkPowers()...)); err != nil {
			return "", err
		}
		return s.announceLMK()
	})
	if err != nil {
		return "", fmt.Errorf("make the LMK key: %w", err)
	}
	return check, nil
}

// RestrictLMK takes from the LMK key in the token the attributes with which most tools load keys and which an LMK key must not have: with
// CKA_DECRYPT whoever has the PIN could open wrapped keys. The result is the LMK check value.
func RestrictLMK(ctx context.Context, library string, settings map[string]string) (keys.KCV, error) {
	check, err := ceremony(ctx, library, settings, codeSetAttribute, func(*session) error { return nil }, func(s *session) (keys.KCV, error) {
		lmk, err := s.findLMK()
		if err != nil {
			return "", err
		}
		if err := s.lib.ctx.SetAttributeValue(s.handle, lmk, lmkPowers()); err != nil {
			return "", err
		}
		return s.announceLMK()
	})
	if err != nil {
		return "", fmt.Errorf("restrict the LMK key: %w", err)
	}
	return check, nil
}

// lmkPowers are what an LMK key may do, as attributes. Wrapping is for MakeSealKey; a member only unwraps.
func lmkPowers() []*p11.Attribute {
	return []*p11.Attribute{
		attribute(p11.CKA_ENCRYPT, false), attribute(p11.CKA_DECRYPT, false),
		attribute(p11.CKA_SIGN, true), attribute(p11.CKA_WRAP, true), attribute(p11.CKA_UNWRAP, true),
	}
}

// announceLMK checks the LMK key as Open will, and computes its check value.
func (s *session) announceLMK() (keys.KCV, error) {
	if err := s.useLMK(); err != nil {
		return "", err
	}
	return s.checkValue(s.lmk)
}

// MakeSealKey makes a random AES-256 key of usage Seal in the token and gives it wrapped under the LMK key, so that every token of the domain
// can work with it. Nothing stays in the token. The caller sets Domain and Version.
func MakeSealKey(ctx context.Context, library string, settings map[string]string) (keys.Wrapped, error) {
	made, err := ceremony(ctx, library, settings, codeWrap, (*session).useLMK, func(s *session) (keys.Wrapped, error) {
		h, err := s.lib.ctx.GenerateKey(s.handle, makeMechanism, []*p11.Attribute{
			attribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY), attribute(p11.CKA_KEY_TYPE, p11.CKK_AES), attribute(p11.CKA_VALUE_LEN, aes256),
			attribute(p11.CKA_TOKEN, false), attribute(p11.CKA_PRIVATE, true), attribute(p11.CKA_SENSITIVE, true), attribute(p11.CKA_EXTRACTABLE, true),
			attribute(p11.CKA_SIGN, true), attribute(p11.CKA_ENCRYPT, false), attribute(p11.CKA_DECRYPT, false), attribute(p11.CKA_DERIVE, false),
		})
		if err != nil {
			return keys.Wrapped{}, err
		}
		defer func() { _ = s.lib.ctx.DestroyObject(s.handle, h) }() // it goes with the session at the latest
		kcv, err := s.checkValue(h)
		if err != nil {
			return keys.Wrapped{}, err
		}
		wrapped, err := s.lib.ctx.WrapKey(s.handle, wrapMechanism, s.lmk, h)
		if err != nil {
			return keys.Wrapped{}, err
		}
		if len(wrapped) != aes256+kwBlock {
			return keys.Wrapped{}, malformed(codeWrap, "a wrapped key of %d bytes, want %d", len(wrapped), aes256+kwBlock)
		}
		return keys.Wrapped{Usage: keys.Seal, Algorithm: keys.AES, Cryptogram: wrappedPrefix + strings.ToUpper(hex.EncodeToString(wrapped)), KCV: kcv}, nil
	})
	if err != nil {
		return keys.Wrapped{}, fmt.Errorf("make a sealing key: %w", err)
	}
	return made, nil
}
