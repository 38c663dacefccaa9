package order

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/keyward/keyward/keys/secret"
)

// ParsePrivateKey reads the signing key of the registry: one PEM block "PRIVATE KEY" with PKCS#8 (RFC 5958) and an Ed25519 key. The
// error shows nothing of the content.
func ParsePrivateKey(pemText secret.Bytes) (ed25519.PrivateKey, error) {
	block, rest := pem.Decode(pemText.Reveal())
	if block == nil || block.Type != "PRIVATE KEY" || len(rest) > 0 {
		return nil, errors.New("order signing key: not one PEM block PRIVATE KEY; make one with: openssl genpkey -algorithm ed25519")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, errors.New("order signing key: not an Ed25519 key in PKCS#8 form; make one with: openssl genpkey -algorithm ed25519")
	}
	return key, nil
}

// ParsePublicKey reads the registry's public key: one PEM block "PUBLIC KEY" (RFC 8410) with an Ed25519 key.
func ParsePublicKey(pemText []byte) (ed25519.PublicKey, error) {
	block, _ := pem.Decode(pemText)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, errors.New("order key: not a PEM block PUBLIC KEY; make one with: openssl pkey -in KEY -pubout")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("order key: %w", err)
	}
	key, ok := parsed.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("order key: %T, want an Ed25519 key", parsed)
	}
	return key, nil
}
