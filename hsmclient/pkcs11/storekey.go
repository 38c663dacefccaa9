//go:build cgo

package pkcs11

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/keys"
)

// StoreKey implements driver.KeyStorer: a random AES-256 key that never leaves the token. It serves MACs and data keys. The caller sets
// Domain and Version of the answer.
//
// Without an answer of the token, and also when the key is stored but cannot be confirmed, the error is of class Unknown; CheckValue of
// the name pkcs11:object=LABEL then tells whether the token holds it.
func (d *Driver) StoreKey(ctx context.Context, on driver.Conversation, req command.NewKey) (keys.Wrapped, error) {
	if err := d.checkNewKey(req); err != nil {
		return keys.Wrapped{}, err
	}
	found, err := ask(ctx, on, codeFind, len(req.Label), func(s *session) ([]p11.ObjectHandle, error) { return s.findObjects(req.Label, nil) })
	if err != nil {
		return keys.Wrapped{}, err
	}
	if len(found) > 0 {
		return keys.Wrapped{}, refusal(codeGenerate, "the token holds a key of the label %q already: choose another label", req.Label)
	}
	id := make([]byte, idSize)
	_, _ = rand.Read(id) // never fails
	h, err := ask(ctx, on, codeGenerate, len(req.Label)+len(id), func(s *session) (p11.ObjectHandle, error) {
		return s.lib.ctx.GenerateKey(s.handle, makeMechanism, storedKey(req.Label, id))
	})
	if err != nil {
		return keys.Wrapped{}, perhapsStored(err)
	}
	kcv, err := confirmStored(ctx, on, h, req.Label)
	if err != nil {
		return keys.Wrapped{}, err
	}
	return keys.Wrapped{Usage: req.Usage, Algorithm: req.Algorithm, Cryptogram: stored(req.Label, id), KCV: kcv}, nil
}

func (d *Driver) checkNewKey(req command.NewKey) error {
	if err := checkLabel(req.Label); err != nil {
		return refusal(codeGenerate, "%w", err)
	}
	switch {
	case d.settings.readOnly:
		return &command.Error{Class: command.NoLicence, Command: codeGenerate, Err: errors.New("the sessions with this token are read-only: set sessions to rw")}
	case req.Label == d.settings.lmkLabel:
		return refusal(codeGenerate, "the label %q is that of the LMK key: choose another", req.Label)
	case req.Usage != keys.Seal || req.Algorithm != keys.AES:
		return refusal(codeGenerate, "a %s key for %s was asked for: this driver stores %s keys for %s only", req.Algorithm, req.Usage, keys.AES, keys.Seal)
	}
	return nil
}

// storedKey is the template of a key that stays in the token.
func storedKey(label string, id []byte) []*p11.Attribute {
	return []*p11.Attribute{
		attribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY), attribute(p11.CKA_KEY_TYPE, p11.CKK_AES), attribute(p11.CKA_VALUE_LEN, aes256),
		attribute(p11.CKA_TOKEN, true), attribute(p11.CKA_PRIVATE, true), attribute(p11.CKA_MODIFIABLE, false),
		attribute(p11.CKA_SENSITIVE, true), attribute(p11.CKA_EXTRACTABLE, false),
		attribute(p11.CKA_LABEL, label), attribute(p11.CKA_ID, id),
		attribute(p11.CKA_SIGN, true), attribute(p11.CKA_VERIFY, true), attribute(p11.CKA_WRAP, true), attribute(p11.CKA_UNWRAP, true),
		attribute(p11.CKA_ENCRYPT, false), attribute(p11.CKA_DECRYPT, false), attribute(p11.CKA_DERIVE, false),
	}
}

// confirmStored looks at the key that was just made: whether it is guarded as asked and alone under its label, and what its check value
// is. A key that is not as it must be is destroyed again.
func confirmStored(ctx context.Context, on driver.Conversation, h p11.ObjectHandle, label string) (keys.KCV, error) {
	guarded, err := ask(ctx, on, codeAttribute, 0, func(s *session) (bool, error) { return s.guarded(h) })
	if err != nil {
		return "", isStored(err)
	}
	same, err := ask(ctx, on, codeFind, len(label), func(s *session) ([]p11.ObjectHandle, error) { return s.findObjects(label, nil) })
	if err != nil {
		return "", isStored(err)
	}
	var bad error
	switch {
	case !guarded:
		bad = &command.Error{Class: command.NoLicence, Command: codeGenerate, Err: errors.New("the token made a key that could leave it: do not store keys in this token")}
	case len(same) > 1:
		bad = refusal(codeGenerate, "two keys of the label %q were made at the same moment: look what the token holds, and choose another label", label)
	default:
		kcv, err := checkValueOf(ctx, on, heldKey{handle: h})
		if err != nil {
			return "", isStored(err)
		}
		return kcv, nil
	}
	if _, err := ask(ctx, on, codeDestroy, 0, func(s *session) (struct{}, error) { return struct{}{}, s.destroy(h) }); err != nil {
		return "", isStored(errors.Join(bad, err))
	}
	return "", bad
}

// guarded says that the key can never leave the token.
func (s *session) guarded(h p11.ObjectHandle) (bool, error) {
	got, err := s.lib.ctx.GetAttributeValue(s.handle, h, []*p11.Attribute{attribute(p11.CKA_SENSITIVE, nil), attribute(p11.CKA_EXTRACTABLE, nil)})
	if err != nil {
		return false, err
	}
	if len(got) != 2 || len(got[0].Value) != 1 || len(got[1].Value) != 1 {
		return false, malformed(codeAttribute, "not the attributes that were asked for")
	}
	return got[0].Value[0] != 0 && got[1].Value[0] == 0, nil
}

// perhapsStored turns the lack of an answer to C_GenerateKey into class Unknown. A refusal of the token, and a call that was not made,
// stay what they are.
func perhapsStored(err error) error {
	var e *command.Error
	if driver.NotSent(err) || errors.As(err, &e) && (e.Class == command.NoLicence || e.Class == command.CallerFault) {
		return err
	}
	return unknown(fmt.Errorf("the key may be in the token or not: %w", err))
}

// isStored is a failure after the key was made. It does not wrap the cause: whatever that says of a later call (that nothing was sent, for
// example) must not be taken as said of the making.
func isStored(cause error) error {
	return unknown(errors.New("the key is in the token, but could not be confirmed: " + cause.Error()))
}

func unknown(cause error) error {
	return &command.Error{Class: command.Unknown, Command: codeGenerate, Err: cause}
}
