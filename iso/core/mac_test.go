package core

import (
	"bytes"
	"crypto/des"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/keyward/keyward/internal/vectors"
	"github.com/keyward/keyward/iso"
)

func TestMAB(t *testing.T) {
	t.Parallel()
	full := encoded(t, purchase())
	mab, err := MAB(full)
	if err != nil || string(mab) != string(full[:len(full)-16]) || cap(mab) != len(mab) {
		t.Errorf("MAB with field 128: %v", err)
	}
	short := iso.New("0800")
	short.Set(iso.Trace, "000001")
	short.SetBytes(iso.MAC, make([]byte, 8))
	b := encoded(t, short)
	if mab, err = MAB(b); err != nil || len(mab) != len(b)-16 {
		t.Errorf("MAB with field 64: %v", err)
	}
	short.Set(iso.NetworkCode, "301") // Field 64 is no longer the last one, and there is no field 128.
	none := iso.New("0800")
	none.Set(iso.OriginalData, strings.Repeat("0", 42))
	for name, message := range map[string][]byte{
		"field 64 in the middle": encoded(t, short), "no MAC": encoded(t, none), "empty": nil, "MTI": full[:4], "bitmaps": full[:36],
		"bitmaps and less than a MAC": full[:40],
	} {
		if _, err := MAB(message); !errors.Is(err, ErrNoMAC) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestMACOverTheLine computes X9.19 here in the test, over bytes that the test wrote by hand for a sign-on.
func TestMACOverTheLine(t *testing.T) {
	t.Parallel()
	m := iso.New("0800")
	m.Set(iso.TransmissionTime, "1121021112")
	m.Set(iso.Trace, "000001")
	m.Set(iso.Acquirer, "10411000")
	m.Set(iso.NetworkCode, SignOn)
	message, mab, err := EncodeForMAC(m)
	if err != nil || m.Has(iso.MAC128) {
		t.Fatalf("%v", err)
	}
	const want = "0800" + "8220000100000000" + "0400000000000001" + "1121021112" + "000001" + "0810411000" + "001"
	if string(mab) != want {
		t.Errorf("MAB is %q", mab)
	}
	mac := retailMAC(t, []byte("0123456789ABCDEF"), mab)
	if err := SetMAC(message, mac); err != nil {
		t.Fatal(err)
	}
	if got := string(message); got != want+fmt.Sprintf("%X", mac) {
		t.Errorf("message is %q", got)
	}
	back, err := Codec().Decode(message)
	if got, _ := back.Bytes(iso.MAC128); err != nil || !bytes.Equal(got, mac) {
		t.Errorf("field 128 does not come back: %v", err)
	}
	if SetMAC(message, mac[:4]) == nil || SetMAC(message[:10], mac) == nil {
		t.Error("a wrong SetMAC is accepted")
	}
	m.Set(iso.Trace, "1")
	if _, _, err := EncodeForMAC(m); !errors.Is(err, iso.Short) {
		t.Errorf("short trace: %v", err)
	}
}

// retailMAC is ISO/IEC 9797-1 algorithm 3, padding method 1.
func retailMAC(t *testing.T, key, data []byte) []byte {
	t.Helper()
	left, err1 := des.NewCipher(key[:8])
	right, err2 := des.NewCipher(key[8:])
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	state := make([]byte, 8)
	for i, b := range data {
		state[i%8] ^= b
		if i%8 == 7 || i == len(data)-1 {
			left.Encrypt(state, state)
		}
	}
	right.Decrypt(state, state)
	left.Encrypt(state, state)
	return state
}

// TestRetailMACKnownAnswer guards the test's own MAC by the published vectors.
func TestRetailMACKnownAnswer(t *testing.T) {
	t.Parallel()
	used := 0
	for _, v := range vectors.Load(t, "mac.json").Group(t, "iso9797_1_alg3_des") {
		key, data := vectors.Hex(t, v.In, "key"), vectors.Hex(t, v.In, "msg")
		if vectors.Int(v.In, "pad", 0) != 1 || len(key) != 16 || len(data) == 0 {
			continue
		}
		used++
		if want := vectors.Hex(t, v.Out, "mac"); !bytes.HasPrefix(retailMAC(t, key, data), want) || len(want) == 0 {
			t.Errorf("%s: MAC differs", v.ID)
		}
	}
	if used == 0 {
		t.Fatal("no vector was used")
	}
}
