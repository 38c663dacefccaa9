//go:build cgo

package pkcs11

import (
	"errors"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyward/keyward/hsmclient/command"
)

// secretKey is the template of an AES key that lives in the session; guarded keys never leave the token.
func secretKey(guarded bool) []*p11.Attribute {
	return []*p11.Attribute{
		attribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY), attribute(p11.CKA_KEY_TYPE, p11.CKK_AES),
		attribute(p11.CKA_TOKEN, false), attribute(p11.CKA_PRIVATE, true),
		attribute(p11.CKA_SENSITIVE, guarded), attribute(p11.CKA_EXTRACTABLE, !guarded),
		attribute(p11.CKA_ENCRYPT, false), attribute(p11.CKA_DECRYPT, false), attribute(p11.CKA_DERIVE, false),
	}
}

// clearAway destroys what an earlier conversation could not, because its time was over. One conversation at a time uses a session.
func (s *session) clearAway() {
	for _, h := range s.temporary {
		_ = s.lib.ctx.DestroyObject(s.handle, h) // what cannot be destroyed goes with the session
	}
	s.temporary = s.temporary[:0]
}

// unwrap opens a key as an object of the session.
func (s *session) unwrap(under p11.ObjectHandle, wrapped []byte, template []*p11.Attribute) (p11.ObjectHandle, error) {
	h, err := s.lib.ctx.UnwrapKey(s.handle, wrapMechanism, under, wrapped, template)
	if err == nil {
		s.temporary = append(s.temporary, h)
		return h, nil
	}
	if r := resultOf(err); r != ckrGeneralError && r != ckrFunctionFailed {
		return 0, err
	}
	// Some libraries (SoftHSM2) have only this result for a wrapped key that does not open, which is the caller's fault. A token that still
	// computes under the LMK is in order.
	if _, alive := s.cmac(s.lmk, make([]byte, aesBlock)); alive != nil {
		return 0, err
	}
	return 0, &command.Error{Class: command.CallerFault, Command: codeUnwrap, Code: resultOf(err).String(), Err: errors.New(nextWrapped)}
}

// generate makes a random AES-256 key as an object of the session.
func (s *session) generate() (p11.ObjectHandle, error) {
	h, err := s.lib.ctx.GenerateKey(s.handle, makeMechanism, append(secretKey(false), attribute(p11.CKA_VALUE_LEN, aes256)))
	if err == nil {
		s.temporary = append(s.temporary, h)
	}
	return h, err
}

// destroy takes an object of the session away.
func (s *session) destroy(h p11.ObjectHandle) error {
	for i, t := range s.temporary {
		if t == h {
			s.temporary = append(s.temporary[:i], s.temporary[i+1:]...)
			break
		}
	}
	return s.lib.ctx.DestroyObject(s.handle, h)
}

// value reads a clear key. The caller wipes it.
func (s *session) value(h p11.ObjectHandle) ([]byte, error) {
	got, err := s.lib.ctx.GetAttributeValue(s.handle, h, []*p11.Attribute{attribute(p11.CKA_VALUE, nil)})
	if err != nil {
		return nil, err
	}
	if len(got) != 1 || len(got[0].Value) != aes256 {
		for _, a := range got {
			clear(a.Value)
		}
		return nil, malformed(codeAttribute, "a data key that has not %d bytes", aes256)
	}
	return got[0].Value, nil
}
