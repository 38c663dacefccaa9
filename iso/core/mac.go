package core

import (
	"errors"
	"fmt"

	"github.com/keyward/keyward/iso"
)

const (
	macLen   = 8          // X9.19 result.
	macChars = 2 * macLen // As it stands on the line.
	mtiLen   = 4
	// Each bitmap is 16 characters; the last character of one holds its fields 61 to 64 (125 to 128).
	bitmapChars = 16
)

// ErrNoMAC says that a message has neither field 128 nor, as its last field, field 64.
var ErrNoMAC = errors.New("message has no MAC field at its end")

// MAB is the data that the MAC covers: all bytes from the MTI to the last byte before the characters of the MAC field, which is field 128,
// or field 64 where there is no secondary bitmap (docs/dialect-core.md §4). It is a part of message, not a copy: what was
// received is what is verified. message has passed Decode, or comes from Encode.
func MAB(message []byte) ([]byte, error) {
	last := mtiLen + bitmapChars
	if len(message) < last+macChars {
		return nil, ErrNoMAC
	}
	if message[mtiLen] >= '8' { // Bit 1: there is a secondary bitmap.
		last += bitmapChars
	}
	if len(message) < last+macChars || !lowestBit(message[last-1]) {
		return nil, ErrNoMAC
	}
	end := len(message) - macChars
	return message[:end:end], nil
}

// lowestBit is the bit of field 64 or 128 in the last character of a bitmap.
func lowestBit(c byte) bool {
	switch c {
	case '1', '3', '5', '7', '9', 'B', 'D', 'F':
		return true
	}
	return false
}

// EncodeForMAC writes a message with zeros as field 128 and returns it together with its MAB. SetMAC completes it. m is left without
// field 128.
func EncodeForMAC(m *iso.Message) (message, mab []byte, err error) {
	m.Set(iso.MAC128, string(make([]byte, macLen)))
	message, err = table.Encode(m)
	m.Unset(iso.MAC128)
	if err != nil {
		return nil, nil, err
	}
	mab, err = MAB(message)
	return message, mab, err
}

// SetMAC writes the eight bytes of a MAC as hex over the last 16 characters of message, which must have a MAC field.
func SetMAC(message, mac []byte) error {
	if len(mac) != macLen {
		return fmt.Errorf("MAC has %d bytes, want %d", len(mac), macLen)
	}
	mab, err := MAB(message)
	if err != nil {
		return err
	}
	_, err = iso.Hex.Append(message[:len(mab)], string(mac))
	return err
}
