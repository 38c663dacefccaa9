package bank

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/keyward/keyward/internal/vectors"
)

func TestMACVectors(t *testing.T) {
	t.Parallel()
	ran := 0
	for _, v := range vectors.Load(t, "mac.json").Group(t, "iso9797_1_alg3_des") {
		if vectors.Int(v.In, "pad", 0) != 1 {
			continue // The dialect pads with zeros only.
		}
		ran++
		key, err := newMACKey(vectors.Hex(t, v.In, "key"))
		if err != nil {
			t.Fatal(v.ID, err)
		}
		msg, want := vectors.Hex(t, v.In, "msg"), vectors.Hex(t, v.Out, "mac")
		got := key.sum(msg)
		if !bytes.HasPrefix(got[:], want) {
			t.Errorf("%s: MAC %X, want %X", v.ID, got, want)
		}
		if !key.verify(msg, got[:]) || key.verify(msg, got[:7]) || key.verify(append(msg, 1), got[:]) {
			t.Errorf("%s: verify does not tell right from wrong", v.ID)
		}
	}
	if ran == 0 {
		t.Fatal("no vector with padding 1")
	}
}

func TestPINBlockVectors(t *testing.T) {
	t.Parallel()
	ran := 0
	for _, v := range vectors.Load(t, "pinblock.json").Group(t, "iso0_encode") {
		pan := vectors.Str(v.In, "pan")
		if pan == "" {
			pan = vectors.Str(v.In, "pan12") + "0" // The vector leaves out the check digit, which the block does not hold.
		}
		ran++
		got, err := pinFieldISO0(vectors.Str(v.In, "pin"), pan)
		if err != nil {
			t.Fatal(v.ID, err)
		}
		if want := vectors.Str(v.Out, "block"); !strings.EqualFold(hex.EncodeToString(got[:]), want) {
			t.Errorf("%s: block differs", v.ID)
		}
		field, err := panFieldISO0(pan)
		if err != nil {
			t.Fatal(v.ID, err)
		}
		for i := range got {
			got[i] ^= field[i]
		}
		if !pinFieldFormed(got) {
			t.Errorf("%s: a right block is called malformed", v.ID)
		}
	}
	if ran == 0 {
		t.Fatal("no vector ran")
	}
}

func TestPINRefusals(t *testing.T) {
	t.Parallel()
	for _, pin := range []string{"", "123", "1234567890123", "12a4"} {
		if _, err := pinFieldISO0(pin, card1); err == nil {
			t.Errorf("a PIN of %d characters was taken", len(pin))
		}
	}
	if _, err := panFieldISO0("123456789012"); err == nil {
		t.Error("a PAN of twelve digits was taken")
	}
	for name, block := range map[string][8]byte{
		"format 1":       {0x14, 0x12, 0x34, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF},
		"three digits":   {0x03, 0x12, 0x3F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF},
		"13 digits":      {0x0D, 0x12, 0x34, 0x56, 0x78, 0x90, 0x12, 0x3F},
		"letter in PIN":  {0x04, 0x12, 0xA4, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF},
		"digit in fill":  {0x04, 0x12, 0x34, 0xFF, 0xFF, 0xF0, 0xFF, 0xFF},
		"fill too early": {0x06, 0x12, 0x34, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF},
	} {
		if pinFieldFormed(block) {
			t.Errorf("%s: taken as format 0", name)
		}
	}
}

func TestPINMatches(t *testing.T) {
	t.Parallel()
	key, err := newPINKey(unhex(t, testZPK))
	if err != nil {
		t.Fatal(err)
	}
	want, err := pinFieldISO0("123456", card1)
	if err != nil {
		t.Fatal(err)
	}
	field, err := panFieldISO0(card1)
	if err != nil {
		t.Fatal(err)
	}
	check := func(block string) (bool, error) {
		return pinMatches(key, decodeBlock([]byte(block)), want, field)
	}
	if ok, err := check(pinBlock(t, "123456", card1)); !ok || err != nil {
		t.Errorf("right PIN: %v, %v", ok, err)
	}
	if ok, err := check(pinBlock(t, "123457", card1)); ok || err != nil {
		t.Errorf("wrong PIN: %v, %v", ok, err)
	}
	if ok, err := check("0011223344556677"); ok || !errors.Is(err, errPINBlock) {
		t.Errorf("garbage: %v, %v", ok, err)
	}
}

func TestKeyLengths(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 8, 15, 17, 24} {
		if _, err := newMACKey(make([]byte, n)); err == nil {
			t.Errorf("MAC key of %d bytes was taken", n)
		}
		if _, err := newPINKey(make([]byte, n)); err == nil {
			t.Errorf("PIN key of %d bytes was taken", n)
		}
	}
}
