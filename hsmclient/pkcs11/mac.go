//go:build cgo

package pkcs11

import (
	"bytes"
	"context"
	"crypto/subtle"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
)

const (
	// maxData bounds the data of one MAC, as it does for host commands: a caller need not know the driver.
	maxData = 16 * 1024
	// minMAC is the shortest MAC that is worth verifying (ISO/IEC 9797-1: 4 bytes).
	minMAC = 4
)

// MAC implements driver.MACer with CKM_AES_CMAC (NIST SP 800-38B), for keys of usage Seal only.
func (d *Driver) MAC(ctx context.Context, on driver.Conversation, in command.MACInput) ([]byte, error) {
	at, err := checkMAC(codeSign, in)
	if err != nil {
		return nil, err
	}
	k, err := holdChecked(ctx, on, at, toMAC, in.Key.KCV)
	if err != nil {
		return nil, err
	}
	defer letGo(ctx, on, k)
	return sign(ctx, on, k, in.Data)
}

// VerifyMAC implements driver.MACer. The token compares a whole MAC; a shortened one is computed and compared here, in constant time.
func (d *Driver) VerifyMAC(ctx context.Context, on driver.Conversation, in command.MACInput, expect []byte) (bool, error) {
	if n := len(expect); n < minMAC || n > aesBlock {
		return false, refusal(codeVerify, "the MAC to verify has %d bytes, want %d to %d", n, minMAC, aesBlock)
	}
	at, err := checkMAC(codeVerify, in)
	if err != nil {
		return false, err
	}
	k, err := holdChecked(ctx, on, at, toMAC, in.Key.KCV)
	if err != nil {
		return false, err
	}
	defer letGo(ctx, on, k)
	if len(expect) < aesBlock {
		mac, err := sign(ctx, on, k, in.Data)
		if err != nil {
			return false, err
		}
		return subtle.ConstantTimeCompare(mac[:len(expect)], expect) == 1, nil
	}
	data, want := bytes.Clone(in.Data), bytes.Clone(expect) // the caller's may change while a call that was given up goes on
	return ask(ctx, on, codeVerify, len(data)+len(want), func(s *session) (bool, error) {
		if err := s.lib.ctx.VerifyInit(s.handle, cmacMechanism, k.handle); err != nil {
			return false, err
		}
		err := s.lib.ctx.Verify(s.handle, data, want)
		if r := resultOf(err); r == ckrSignatureInvalid || r == ckrSignatureLength {
			return false, nil
		}
		return err == nil, err
	})
}

func checkMAC(code string, in command.MACInput) (place, error) {
	at, err := checkKey(code, "the MAC key", in.Key)
	if err != nil {
		return place{}, err
	}
	if in.Algorithm != command.MACCMAC {
		return place{}, refusal(code, "MAC algorithm %d: this driver computes CMACs (algorithm %d) only", in.Algorithm, command.MACCMAC)
	}
	if n := len(in.Data); n == 0 || n > maxData {
		return place{}, refusal(code, "the data to MAC has %d bytes, want 1 to %d", n, maxData)
	}
	return at, nil
}

// sign computes the whole MAC.
func sign(ctx context.Context, on driver.Conversation, k heldKey, data []byte) ([]byte, error) {
	data = bytes.Clone(data) // the caller's may change while a call that was given up goes on
	return ask(ctx, on, codeSign, len(data), func(s *session) ([]byte, error) { return s.cmac(k.handle, data) })
}
