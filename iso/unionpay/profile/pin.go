package profile

import (
	"errors"

	"github.com/keyward/keyward/iso"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
)

const (
	sm4Block    = 16
	pinTag      = 0x00 // tag of the PIN block in field 62
	sm016       = "SM016"
	prefixBytes = 5
	tlvHead     = 2 // tag 1 byte, length 1 byte
)

// Faults of an SM4 PIN; a message with one is answered 30 (facts/unionpay.md §5, BESTPAY).
var (
	errPINField = errors.New("field 52 holds something: the PIN of an SM4 terminal travels in another field")
	errNoPIN    = errors.New("the SM4 PIN block is missing in its field")
	errTLV      = errors.New("field 62 is no list of tags, lengths and values")
)

// PIN gives the enciphered PIN block of a message from a terminal with keys of the algorithm, zero where there is none. It is an error when
// an SM4 terminal announces one by field 52 and it is not in its place.
func (p *Profile) PIN(m *iso.Message, algorithm keys.Algorithm) (secret.PINBlock, error) {
	block := m.Secret(iso.PINBlock)
	if algorithm != keys.SM4 || block.IsZero() {
		return block, nil
	}
	for _, b := range block.Reveal() {
		if b != 0 {
			return secret.PINBlock{}, errPINField
		}
	}
	switch p.SM4PIN {
	case PlaceSM016:
		field := m.Text(iso.Private63)
		if len(field) != len(sm016)+sm4Block || field[:len(sm016)] != sm016 {
			return secret.PINBlock{}, errNoPIN
		}
		return secret.NewString(field[len(sm016):]), nil
	case PlacePrefix:
		field := m.Text(iso.Private62)
		if len(field) != prefixBytes+sm4Block {
			return secret.PINBlock{}, errNoPIN
		}
		return secret.NewString(field[prefixBytes:]), nil
	default:
		return taggedPIN(m.Text(iso.Private62))
	}
}

// PINField is the field besides field 52 that holds the PIN block of a terminal with keys of the algorithm, 0 for none. Nothing that must be
// the same in two copies of a message may depend on it.
func (p *Profile) PINField(algorithm keys.Algorithm) int {
	switch {
	case algorithm != keys.SM4:
		return 0
	case p.SM4PIN == PlaceSM016:
		return iso.Private63
	default:
		return iso.Private62
	}
}

// taggedPIN walks field 62: tag, length, value, again and again.
func taggedPIN(field string) (secret.PINBlock, error) {
	var found secret.PINBlock
	for rest := field; rest != ""; {
		if len(rest) < tlvHead || len(rest) < tlvHead+int(rest[1]) {
			return secret.PINBlock{}, errTLV
		}
		value := rest[tlvHead : tlvHead+int(rest[1])]
		if rest[0] == pinTag {
			if len(value) != sm4Block || !found.IsZero() {
				return secret.PINBlock{}, errNoPIN
			}
			found = secret.NewString(value)
		}
		rest = rest[tlvHead+len(value):]
	}
	if found.IsZero() {
		return secret.PINBlock{}, errNoPIN
	}
	return found, nil
}
