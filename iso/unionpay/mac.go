package unionpay

import (
	"errors"
	"fmt"

	"github.com/keyward/keyward/iso"
)

const (
	macLen       = 8 // Field 64, the last field.
	mtiLen       = 2
	bitmapLen    = 8
	desBlockLen  = 8
	sm4BlockLen  = 16
	hexDigits    = "0123456789ABCDEF"
	lastFieldBit = 1 // Bit 64: lowest bit of the last bitmap byte.
)

// ErrNoMAC says that a frame has no field 64, so that there is nothing to verify and nowhere to put a MAC.
var ErrNoMAC = errors.New("frame has no field 64")

// MAB is the data that the MAC covers: the bytes from the MTI to the last byte before field 64, bitmap included (facts/unionpay.md §4).
// It is a part of frame, not a copy: what was received is what is verified, never a second encoding. frame excludes the
// 2-byte length and has passed Parse, or comes from Encode. The error wraps ErrFraming or ErrNoMAC.
func MAB(frame []byte) ([]byte, error) {
	start, err := messageStart(frame)
	if err != nil {
		return nil, err
	}
	body := frame[start:]
	if len(body) < mtiLen+bitmapLen+macLen || body[mtiLen+bitmapLen-1]&lastFieldBit == 0 {
		return nil, ErrNoMAC
	}
	end := len(body) - macLen
	return body[:end:end], nil
}

// EncodeForMAC writes the frame with eight zero bytes as field 64 and returns it together with its MAB. SetMAC completes it. The packet's
// message is left without field 64.
func (p *Packet) EncodeForMAC() (frame, mab []byte, err error) {
	if p.Message == nil {
		return nil, nil, &iso.EncodeError{Field: 0, Reason: iso.BadMTI}
	}
	p.Message.Set(iso.MAC, string(make([]byte, macLen)))
	frame, err = p.Encode()
	p.Message.Unset(iso.MAC)
	if err != nil {
		return nil, nil, err
	}
	mab, err = MAB(frame)
	return frame, mab, err
}

// SetMAC writes the eight bytes of a MAC over the last eight bytes of frame, which must have field 64.
func SetMAC(frame, mac []byte) error {
	if len(mac) != macLen {
		return fmt.Errorf("MAC has %d bytes, want %d", len(mac), macLen)
	}
	if _, err := MAB(frame); err != nil {
		return err
	}
	copy(frame[len(frame)-macLen:], mac)
	return nil
}

// Fold is the first half of the UnionPay "ECB" MAC: all 8-byte blocks of the MAB (zero-padded) XORed, written as 16 upper-case hex
// characters. A CBC-MAC over these 16 bytes under the MAK gives 8 bytes; the first 4 in hex are field 64 (facts/unionpay.md §4, steps 1 to 3).
func Fold(mab []byte) [2 * desBlockLen]byte {
	var x [desBlockLen]byte
	for i, b := range mab {
		x[i%desBlockLen] ^= b
	}
	var out [2 * desBlockLen]byte
	hexInto(out[:], x[:])
	return out
}

// FoldSM4 is Fold with 16-byte blocks, for a CBC-MAC under an SM4 key.
func FoldSM4(mab []byte) [2 * sm4BlockLen]byte {
	var x [sm4BlockLen]byte
	for i, b := range mab {
		x[i%sm4BlockLen] ^= b
	}
	var out [2 * sm4BlockLen]byte
	hexInto(out[:], x[:])
	return out
}

func hexInto(dst, src []byte) {
	for i, b := range src {
		dst[2*i], dst[2*i+1] = hexDigits[b>>4], hexDigits[b&0x0F]
	}
}
