//go:build cgo

package pkcs11

import (
	"bytes"
	"context"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
)

// MakeDataKey implements driver.DataKeyMaker: an AES-256 key made in the token and wrapped there by AES Key Wrap (RFC 3394). The clear
// key is then read out of the session; the object is destroyed with the conversation.
func (d *Driver) MakeDataKey(ctx context.Context, on driver.Conversation, kek keys.Wrapped) (command.DataKey, error) {
	under, err := holdKEK(ctx, on, kek)
	if err != nil {
		return command.DataKey{}, err
	}
	defer letGo(ctx, on, under)
	h, err := ask(ctx, on, codeGenerate, 0, func(s *session) (p11.ObjectHandle, error) { return s.generate() })
	if err != nil {
		return command.DataKey{}, err
	}
	made := heldKey{handle: h, temporary: true}
	defer letGo(ctx, on, made)
	wrapped, err := ask(ctx, on, codeWrap, 0, func(s *session) ([]byte, error) {
		b, err := s.lib.ctx.WrapKey(s.handle, wrapMechanism, under.handle, made.handle)
		if err == nil && len(b) != aes256+kwBlock {
			return nil, malformed(codeWrap, "a wrapped key of %d bytes, want %d", len(b), aes256+kwBlock)
		}
		return b, err
	})
	if err != nil {
		return command.DataKey{}, err
	}
	clearKey, err := readOut(ctx, on, made)
	if err != nil {
		return command.DataKey{}, err
	}
	return command.DataKey{Clear: clearKey, Wrapped: wrapped}, nil
}

// OpenDataKey implements driver.DataKeyMaker.
func (d *Driver) OpenDataKey(ctx context.Context, on driver.Conversation, kek keys.Wrapped, wrapped []byte) (secret.Key, error) {
	if n := len(wrapped); n != aes256+kwBlock {
		return secret.Key{}, refusal(codeUnwrap, "the wrapped data key has %d bytes, want %d", n, aes256+kwBlock)
	}
	under, err := holdKEK(ctx, on, kek)
	if err != nil {
		return secret.Key{}, err
	}
	defer letGo(ctx, on, under)
	data := bytes.Clone(wrapped) // the caller's may change while a call that was given up goes on
	h, err := ask(ctx, on, codeUnwrap, len(data), func(s *session) (p11.ObjectHandle, error) {
		return s.unwrap(under.handle, data, secretKey(false))
	})
	if err != nil {
		return secret.Key{}, err
	}
	opened := heldKey{handle: h, temporary: true}
	defer letGo(ctx, on, opened)
	return readOut(ctx, on, opened)
}

// holdKEK is hold for the key-encrypting key.
func holdKEK(ctx context.Context, on driver.Conversation, kek keys.Wrapped) (heldKey, error) {
	at, err := checkKey(codeUnwrap, "the key-encrypting key", kek)
	if err != nil {
		return heldKey{}, err
	}
	return holdChecked(ctx, on, at, toWrap, kek.KCV)
}

// readOut takes the clear data key out of the session.
func readOut(ctx context.Context, on driver.Conversation, k heldKey) (secret.Key, error) {
	b, err := ask(ctx, on, codeAttribute, 0, func(s *session) ([]byte, error) { return s.value(k.handle) })
	if err != nil {
		return secret.Key{}, err
	}
	defer clear(b)
	return secret.New(b), nil
}
