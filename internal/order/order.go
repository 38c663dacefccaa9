// Package order holds the signed order to issue cards: which PSAM numbers, for which algorithms, until when, and who approved it.
//
// The registry signs an order once enough people have approved it; the key service derives nothing without a valid one (P1). The
// issuer only carries it between the two and can change nothing in it.
package order

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/keyward/keyward/keys"
)

const (
	// documentType stands first in every document, so that a signature made for something else is never taken for an order.
	documentType = "keyward-issue-order/1"
	psamDigits   = 20 // facts/psam.md §2.2
	// MaxCount bounds the cards of one order: a stolen order must not be worth a whole country's cards.
	MaxCount = 100_000
	// minApprovers is how many different people must have approved an order.
	minApprovers = 2
	// maxApprovers and maxName keep a document within maxDocument.
	maxApprovers = 8
	maxName      = 128 // bytes of a user name
	// maxDocument bounds what Verify reads, far above what the fields can need.
	maxDocument = 8 << 10
)

// ErrExpired is in the error of Verify when the order is genuine but its time is over.
var ErrExpired = errors.New("the order has expired")

// Order is what may be issued.
type Order struct {
	// ID is a UUID in lower-case text form.
	ID string `json:"order_id"`
	// PSAMFrom is the first PSAM number, 20 digits; the order covers Count numbers from there on.
	PSAMFrom string `json:"psam_from"`
	// Count is the number of cards, 1 to MaxCount.
	Count int `json:"count"`
	// Algorithms are those to derive terminal master keys for: TDES, SM4.
	Algorithms []keys.Algorithm `json:"algorithms"`
	// ExpiresAt is when the order ends, in whole seconds.
	ExpiresAt time.Time `json:"expires_at"`
	// Approvers are at least two different people.
	Approvers []string `json:"approvers"`
	// Author is who wrote the order.
	Author string `json:"author"`
}

// Signed is an order as it travels.
type Signed struct {
	// Document is the JSON text that was signed.
	Document []byte `json:"document"`
	// Signature is the Ed25519 signature over Document (RFC 8032 §5.1.6), 64 bytes.
	Signature []byte `json:"signature"`
}

// document is the signed text. Its encoding is canonical: the same order gives the same bytes.
type document struct {
	Type string `json:"type"`
	Order
}

// Sign checks the order and signs it. ExpiresAt is cut to whole seconds of UTC.
func (o Order) Sign(key ed25519.PrivateKey) (Signed, error) {
	if len(key) != ed25519.PrivateKeySize {
		return Signed{}, errors.New("sign order: the signing key is missing")
	}
	o.ExpiresAt = o.ExpiresAt.UTC().Truncate(time.Second)
	if err := o.Validate(); err != nil {
		return Signed{}, fmt.Errorf("sign order: %w", err)
	}
	text, err := json.Marshal(document{documentType, o})
	if err != nil {
		return Signed{}, fmt.Errorf("sign order: %w", err)
	}
	return Signed{Document: text, Signature: ed25519.Sign(key, text)}, nil
}

// Verify returns the order when the signature is that of key, the document is one of ours, and now is before its end. The
// signature is checked before anything is parsed. ErrExpired tells a genuine order whose time is over.
func Verify(key ed25519.PublicKey, s Signed, now time.Time) (Order, error) {
	if len(key) != ed25519.PublicKeySize {
		return Order{}, errors.New("verify order: the key of the registry is missing")
	}
	if len(s.Document) > maxDocument || len(s.Signature) != ed25519.SignatureSize || !ed25519.Verify(key, s.Document, s.Signature) {
		return Order{}, errors.New("verify order: the signature is not that of the registry")
	}
	var d document
	decoder := json.NewDecoder(bytes.NewReader(s.Document))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&d); err != nil {
		return Order{}, fmt.Errorf("verify order: the signed document cannot be read: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) || d.Type != documentType {
		return Order{}, fmt.Errorf("verify order: the signed document is not an issue order of type %s", documentType)
	}
	if err := d.Validate(); err != nil {
		return Order{}, fmt.Errorf("verify order: %w", err)
	}
	if !now.Before(d.ExpiresAt) {
		return Order{}, fmt.Errorf("verify order %s: %w on %s", d.ID, ErrExpired, d.ExpiresAt.Format(time.RFC3339))
	}
	return d.Order, nil
}

// Covers says that the order's range holds the PSAM number (20 digits; anything else is never covered).
func (o Order) Covers(psamNo string) bool {
	last, err := lastNumber(o.PSAMFrom, o.Count)
	// Numbers of one length compare as text.
	return err == nil && isNumber(psamNo) && o.PSAMFrom <= psamNo && psamNo <= last
}

// Validate checks every field; Sign and Verify call it. It joins all that it finds.
func (o Order) Validate() error {
	var errs []error
	need := func(ok bool, text string) {
		if !ok {
			errs = append(errs, errors.New(text))
		}
	}
	need(isUUID(o.ID), "order_id must be a UUID in lower case")
	_, err := lastNumber(o.PSAMFrom, o.Count)
	errs = append(errs, err)
	need(!o.ExpiresAt.IsZero(), "expires_at is needed")
	need(o.ExpiresAt.Equal(o.ExpiresAt.Truncate(time.Second)), "expires_at must be a whole second")
	need(len(o.Algorithms) > 0, "algorithms must name tdes, sm4 or both")
	for i, a := range o.Algorithms {
		need(a == keys.TDES || a == keys.SM4, "algorithms may be tdes and sm4")
		need(!slices.Contains(o.Algorithms[:i], a), "algorithms names one twice")
	}
	need(len(o.Approvers) >= minApprovers && len(o.Approvers) <= maxApprovers, "approvers must be 2 to 8 people")
	for i, name := range o.Approvers {
		need(name != "" && len(name) <= maxName, "an approver's name must have 1 to 128 bytes")
		need(!slices.Contains(o.Approvers[:i], name), "approvers must be different people")
	}
	need(o.Author != "" && len(o.Author) <= maxName, "author must have 1 to 128 bytes")
	return errors.Join(errs...)
}

// lastNumber is the last PSAM number of a range; a range that runs over 20 digits is refused.
func lastNumber(from string, count int) (string, error) {
	if !isNumber(from) {
		return "", fmt.Errorf("psam_from must have %d digits", psamDigits)
	}
	if count < 1 || count > MaxCount {
		return "", fmt.Errorf("count must be 1 to %d", MaxCount)
	}
	digits := []byte(from)
	carry := count - 1
	for i := len(digits) - 1; i >= 0 && carry > 0; i-- {
		sum := int(digits[i]-'0') + carry
		digits[i] = byte('0' + sum%10)
		carry = sum / 10
	}
	if carry > 0 {
		return "", fmt.Errorf("the range runs beyond %d digits: lower count", psamDigits)
	}
	return string(digits), nil
}

func isNumber(s string) bool {
	if len(s) != psamDigits {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// isUUID accepts the 36-character text form in lower case.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
	}
	return true
}
