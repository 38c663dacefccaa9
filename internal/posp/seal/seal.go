// Package seal protects the little card data that has to outlive a transaction: what a reversal needs is stored enciphered
// (AES-256-GCM), and card numbers are searched by a keyed digest (HMAC-SHA-256).
//
// Both keys are computed by the HSM as MACs over fixed labels under one MAC key that never leaves it. So nothing is stored that
// could unseal the data, every posp with the same LMK gets the same keys, and the online group of the HSM needs no right to
// decrypt or to export.
package seal

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
)

// formatV1 is the first byte of a sealed value; then 12 bytes nonce, ciphertext, 16 bytes tag.
const formatV1 = 1

// digestLen is how much of the keyed digest is kept: 128 bits tell all card numbers apart.
const digestLen = 16

// MACer is what the sealer needs of the HSM.
type MACer interface {
	MAC(ctx context.Context, in command.MACInput) ([]byte, error)
}

// Sealer seals, opens and digests. It is safe for concurrent use.
type Sealer struct {
	aead      cipher.AEAD
	digestKey secret.Key
}

// New has the HSM compute the keys. key is a MAC key of usage Seal, double-length TDES or AES; its twins in other LMK domains give the same keys, and are
// asked one after the other when the HSM cannot use those before. So data that was sealed in one domain opens in the other.
func New(ctx context.Context, hsm MACer, key keys.Wrapped, twins ...keys.Wrapped) (*Sealer, error) {
	var failed error
	for _, k := range append([]keys.Wrapped{key}, twins...) {
		s, err := newFrom(ctx, hsm, k)
		if err == nil {
			return s, nil
		}
		failed = errors.Join(failed, err)
	}
	return nil, failed
}

func newFrom(ctx context.Context, hsm MACer, key keys.Wrapped) (*Sealer, error) {
	if key.Usage != keys.Seal {
		return nil, fmt.Errorf("sealing key is a %s key, want %s", key.Usage, keys.Seal)
	}
	sealKey, err := derive(ctx, hsm, key, "keyward seal v1")
	if err != nil {
		return nil, err
	}
	defer sealKey.Wipe()
	digestKey, err := derive(ctx, hsm, key, "keyward digest v1")
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(sealKey.Reveal())
	if err != nil {
		return nil, fmt.Errorf("sealing key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("sealing key: %w", err)
	}
	return &Sealer{aead: aead, digestKey: digestKey}, nil
}

// derive computes 32 bytes as four MACs over label and counter, and spreads their strength (112 bits with TDES) by SHA-256. A TDES key gives
// retail MACs, an AES key CMACs, which is what devices for storage compute.
func derive(ctx context.Context, hsm MACer, key keys.Wrapped, label string) (secret.Key, error) {
	algorithm := command.MACAlg3
	if key.Algorithm == keys.AES {
		algorithm = command.MACCMAC
	}
	h := sha256.New()
	for i := byte(1); i <= 4; i++ {
		mac, err := hsm.MAC(ctx, command.MACInput{Key: key, Algorithm: algorithm, Data: append([]byte(label), i)})
		if err != nil {
			return secret.Key{}, fmt.Errorf("derive the sealing keys in the hsm: %w", err)
		}
		_, _ = h.Write(mac)
	}
	return secret.New(h.Sum(nil)), nil
}

// Seal enciphers clear; the same context (for example the transaction id) must be given to Open.
func (s *Sealer) Seal(clear []byte, context []byte) []byte {
	out := make([]byte, 1+s.aead.NonceSize(), 1+s.aead.NonceSize()+len(clear)+s.aead.Overhead())
	out[0] = formatV1
	_, _ = rand.Read(out[1:]) // never fails since Go 1.24
	return s.aead.Seal(out, out[1:], clear, context)
}

// Open is the inverse of Seal. It fails for a changed value, another context, or another key.
func (s *Sealer) Open(sealed []byte, context []byte) ([]byte, error) {
	n := s.aead.NonceSize()
	if len(sealed) < 1+n || sealed[0] != formatV1 {
		return nil, errors.New("sealed value is too short or of an unknown format")
	}
	clear, err := s.aead.Open(nil, sealed[1:1+n], sealed[1+n:], context)
	if err != nil {
		return nil, errors.New("sealed value does not open: it was changed, belongs elsewhere, or the sealing key is another one")
	}
	return clear, nil
}

// Digest gives the keyed digest of any content that may hold card data, so that it can be compared without being kept.
func (s *Sealer) Digest(content []byte) [32]byte {
	m := hmac.New(sha256.New, s.digestKey.Reveal())
	_, _ = m.Write([]byte("content"))
	_, _ = m.Write(content)
	return [32]byte(m.Sum(nil))
}

// DigestPAN gives the keyed digest by which a card number can be searched, nil for no number.
func (s *Sealer) DigestPAN(pan secret.PAN) []byte {
	if pan.IsZero() {
		return nil
	}
	m := hmac.New(sha256.New, s.digestKey.Reveal())
	_, _ = m.Write([]byte(pan.Reveal()))
	return m.Sum(nil)[:digestLen]
}
