//go:build cgo

package pkcs11

import (
	"context"
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/keys"
)

// heldKey is a key that can be used in the session.
type heldKey struct {
	handle    p11.ObjectHandle
	temporary bool // an object of the session, made for this conversation
}

func attribute(kind uint, v any) *p11.Attribute { return p11.NewAttribute(kind, v) }

// role is what a wrapped key is opened for, and for nothing else.
type role []*p11.Attribute

var (
	toMAC = role{
		attribute(p11.CKA_SIGN, true), attribute(p11.CKA_VERIFY, true), attribute(p11.CKA_WRAP, false), attribute(p11.CKA_UNWRAP, false),
	}
	toWrap = role{
		attribute(p11.CKA_SIGN, false), attribute(p11.CKA_VERIFY, false), attribute(p11.CKA_WRAP, true), attribute(p11.CKA_UNWRAP, true),
	}
)

// hold makes a key usable in the session: it opens a wrapped one or finds a stored one. The caller lets go of it.
func hold(ctx context.Context, on driver.Conversation, at place, as role) (heldKey, error) {
	if at.wrapped != nil {
		h, err := ask(ctx, on, codeUnwrap, len(at.wrapped), func(s *session) (p11.ObjectHandle, error) {
			s.clearAway()
			h, err := s.unwrap(s.lmk, at.wrapped, append(secretKey(true), as...))
			if r := resultOf(err); r == ckrUnwrappingKeyHandle || r == ckrKeyHandle {
				return 0, &command.Error{Class: command.MemberFault, Command: codeUnwrap, Code: r.String(), Err: errors.New("the LMK key was taken out of the token")}
			}
			return h, err
		})
		return heldKey{handle: h, temporary: true}, err
	}
	handles, err := ask(ctx, on, codeFind, len(at.label)+len(at.id), func(s *session) ([]p11.ObjectHandle, error) {
		s.clearAway()
		return s.findObjects(at.label, at.id)
	})
	if err != nil {
		return heldKey{}, err
	}
	if len(handles) == 1 {
		return heldKey{handle: handles[0]}, nil
	}
	// Another member may hold it.
	how := "no key"
	if len(handles) > 1 {
		how = "more than one key"
	}
	return heldKey{}, &command.Error{Class: command.NoLicence, Command: codeFind, Err: fmt.Errorf("the token holds %s of the label %q and the id in the cryptogram", how, at.label)}
}

// holdChecked is hold for a key that is going to be used. A stored key whose name has no id is looked at first, because another token may
// hold another key of that label.
func holdChecked(ctx context.Context, on driver.Conversation, at place, as role, want keys.KCV) (heldKey, error) {
	byLabel := at.label != "" && at.id == nil
	if byLabel && want == "" {
		return heldKey{}, refusal(codeFind, "the name of the stored key %q has no id, so its check value must be given", at.label)
	}
	k, err := hold(ctx, on, at, as)
	if err != nil || !byLabel {
		return k, err
	}
	got, err := checkValueOf(ctx, on, k)
	if err != nil {
		return heldKey{}, err
	}
	if !got.Matches(want) {
		return heldKey{}, &command.Error{Class: command.NoLicence, Command: codeSign, Err: fmt.Errorf("the token's key %q has the check value %s, not %s", at.label, got, want)}
	}
	return k, nil
}

// letGo destroys a key that was made for this conversation. When it cannot, because the caller's time is over, the session does so before
// it holds the next key; so its result is of no concern.
func letGo(ctx context.Context, on driver.Conversation, k heldKey) {
	if !k.temporary {
		return
	}
	_, _ = ask(ctx, on, codeDestroy, 0, func(s *session) (struct{}, error) { return struct{}{}, s.destroy(k.handle) })
}
