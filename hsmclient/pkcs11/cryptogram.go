package pkcs11

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/keys"
)

// Forms of keys.Wrapped.Cryptogram (docs/hsm-driver.md):
//
//	pkcs11:wrapped=HEX               an AES key under the LMK key of the domain by AES Key Wrap (RFC 3394)
//	pkcs11:object=LABEL;id=HEX       a key that stays in a token; the id is in no other key
//	pkcs11:object=LABEL              the same without its id: usable only with a check value, because another token may have another
//	                                 key of that label
const (
	wrappedPrefix = "pkcs11:wrapped="
	objectPrefix  = "pkcs11:object="
	idMark        = ";id="
)

const (
	// maxLabel bounds the label of a stored key. PKCS#11 sets no limit; this one fits every token that is known.
	maxLabel = 32
	// idSize is the size of the CKA_ID that StoreKey gives: too long to come twice.
	idSize = 16
	// kwBlock is the block of RFC 3394: a wrapped key is one block longer than the key.
	kwBlock = 8
)

// AES key sizes in bytes.
const (
	aes128 = 16
	aes192 = 24
	aes256 = 32
)

// place says where a key is.
type place struct {
	wrapped []byte // under the LMK; nil for a stored key
	label   string // of a stored key
	id      []byte // of a stored key, nil where it is not known
}

// stored names a key that stays in a token.
func stored(label string, id []byte) string {
	return objectPrefix + label + idMark + strings.ToUpper(hex.EncodeToString(id))
}

// parseCryptogram reads what stored wrote, or a wrapped key. Its errors do not show the text.
func parseCryptogram(text string) (place, error) {
	if digits, ok := strings.CutPrefix(text, wrappedPrefix); ok {
		b, err := hex.DecodeString(digits)
		switch n := len(b) - kwBlock; {
		case err != nil:
			return place{}, errors.New("the cryptogram is not hex behind " + wrappedPrefix)
		case n != aes128 && n != aes192 && n != aes256:
			return place{}, fmt.Errorf("the cryptogram has %d bytes, a wrapped AES key has 24, 32 or 40", len(b))
		}
		return place{wrapped: b}, nil
	}
	name, ok := strings.CutPrefix(text, objectPrefix)
	if !ok {
		return place{}, fmt.Errorf("the cryptogram begins neither with %s nor with %s: the key belongs to another driver", wrappedPrefix, objectPrefix)
	}
	label, digits, hasID := strings.Cut(name, idMark)
	if err := checkLabel(label); err != nil {
		return place{}, err
	}
	if !hasID {
		return place{label: label}, nil
	}
	id, err := hex.DecodeString(digits)
	if err != nil || len(id) == 0 || len(id) > 2*idSize {
		return place{}, fmt.Errorf("the id of the stored key is not hex of 1 to %d bytes", 2*idSize)
	}
	return place{label: label, id: id}, nil
}

// checkLabel holds labels to what needs no escaping anywhere.
func checkLabel(label string) error {
	if label == "" || len(label) > maxLabel {
		return fmt.Errorf("the label of a stored key has %d characters, want 1 to %d", len(label), maxLabel)
	}
	for i := range len(label) {
		c := label[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return fmt.Errorf("character %d of the label is none of letters, digits, hyphen, underscore and full stop", i+1)
		}
	}
	return nil
}

// checkKey refuses what is no sealing key of this driver, before the token is asked.
func checkKey(code, what string, key keys.Wrapped) (place, error) {
	switch {
	case key.IsZero():
		return place{}, refusal(code, "%s is missing", what)
	case key.Usage != keys.Seal:
		return place{}, refusal(code, "%s is a key for %s: this driver works with keys for %s only", what, key.Usage, keys.Seal)
	case key.Algorithm != keys.AES:
		return place{}, refusal(code, "%s is a %s key: this driver works with AES only", what, key.Algorithm)
	}
	at, err := parseCryptogram(key.Cryptogram)
	if err != nil {
		return place{}, refusal(code, "%s: %w", what, err)
	}
	return at, nil
}

// refusal is a request that is wrong before anything was asked.
func refusal(code, format string, args ...any) error {
	return &command.Error{Class: command.CallerFault, Command: code, Err: fmt.Errorf(format, args...)}
}
