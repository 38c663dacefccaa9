package unionpay

import (
	"bytes"
	"crypto/des"
	"errors"
	"testing"

	"github.com/emmansun/gmsm/sm4"

	"github.com/keyward/keyward/internal/vectors"
	"github.com/keyward/keyward/iso"
)

// TestMACKnownAnswers computes field 64 of public messages: MAB from the received bytes, Fold, then DES here in the test.
func TestMACKnownAnswers(t *testing.T) {
	t.Parallel()
	kat5 := desCipher(t, unhex(t, "B86B0746B24C3858153668A522AAB748"))
	mak5 := make([]byte, des.BlockSize)
	kat5.Decrypt(mak5, unhex(t, "6A8774A8D13171FC"))
	for name, c := range map[string]struct {
		packet string
		key    []byte
		want   string
	}{
		"KAT-3":           {"5", unhex(t, "DAB36167E6DFB5EF"), "E5805ECB"},
		"KAT-4":           {"11", unhex(t, "7F52E3201FDF045E"), "28C7AFB5"},
		"KAT-5":           {"12", mak5, "ECF166D3"},
		"made-up, single": {"5", unhex(t, "A1A2A3A4A5A6A7A8"), "C9CD62BA"},
		"made-up, double": {"5", unhex(t, "A1A2A3A4A5A6A7A8B1B2B3B4B5B6B7B8"), "D45CBF74"},
	} {
		e := find(t, c.packet)
		mab, err := MAB(e.frame)
		if err != nil {
			t.Fatal(err)
		}
		folded := Fold(mab)
		if got := shown(cbcMAC(desCipher(t, c.key), folded[:])); got != c.want {
			t.Errorf("%s: MAC %s, want %s", name, got, c.want)
		}
	}
}

// TestFoldOfKAT3 checks the step in between, which the source states (facts/unionpay.md §4).
func TestFoldOfKAT3(t *testing.T) {
	t.Parallel()
	mab, err := MAB(find(t, "5").frame)
	if err != nil {
		t.Fatal(err)
	}
	if len(mab) != 86 {
		t.Errorf("MAB has %d bytes, want 86", len(mab))
	}
	if got := Fold(mab); string(got[:]) != "8669012722F217C6" {
		t.Errorf("fold is %s", got)
	}
	if got := FoldSM4(mab); string(got[:]) != "3253052522C033D4B43A040200322412" {
		t.Errorf("SM4 fold is %s", got)
	}
	if got := Fold(nil); string(got[:]) != "0000000000000000" {
		t.Errorf("fold of nothing is %s", got)
	}
}

func TestVectorsSM4MAC(t *testing.T) {
	t.Parallel()
	computed := 0
	for _, v := range vectors.Load(t, "mac.json").Group(t, "unionpay_sm4_ecb_mac") {
		folded := FoldSM4(vectors.Hex(t, v.In, "mab"))
		if got, want := string(folded[:]), vectors.Str(v.Out, "xor"); got != want || want == "" {
			t.Errorf("%s: fold %s, want %s", v.ID, got, want)
		}
		key := vectors.Hex(t, v.In, "mak")
		if len(key) == 0 {
			continue
		}
		c, err := sm4.NewCipher(key)
		if err != nil {
			t.Fatal(err)
		}
		computed++
		if got, want := shown(cbcMAC(c, folded[:])), vectors.Str(v.Out, "mac_ascii"); got != want {
			t.Errorf("%s: MAC %s, want %s", v.ID, got, want)
		}
	}
	if computed == 0 {
		t.Fatal("no vector has a key")
	}
}

// TestSM4FixtureMAC is the made-up SM4 fixture of facts/unionpay.md §4.
func TestSM4FixtureMAC(t *testing.T) {
	t.Parallel()
	mab, err := MAB(find(t, "5").frame)
	if err != nil {
		t.Fatal(err)
	}
	c, err := sm4.NewCipher(unhex(t, "A1A2A3A4A5A6A7A8B1B2B3B4B5B6B7B8"))
	if err != nil {
		t.Fatal(err)
	}
	folded := FoldSM4(mab)
	if got := shown(cbcMAC(c, folded[:])); got != "4EC953E9" {
		t.Errorf("MAC %s", got)
	}
}

func TestEncodeForMAC(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"5", "11", "23"} {
		e := find(t, id)
		p, err := Parse(e.frame)
		if err != nil {
			t.Fatal(err)
		}
		mac, _ := p.Message.Bytes(iso.MAC)
		p.Message.Unset(iso.MAC)
		frame, mab, err := p.EncodeForMAC()
		if err != nil {
			t.Fatal(err)
		}
		want, err := MAB(e.frame)
		if err != nil || !bytes.Equal(mab, want) {
			t.Errorf("packet %s: MAB differs (%v)", id, err)
		}
		if p.Message.Has(iso.MAC) {
			t.Error("the placeholder stays in the message")
		}
		if err := SetMAC(frame, mac); err != nil || !bytes.Equal(frame, e.frame) {
			t.Errorf("packet %s: frame with MAC differs (%v)", id, err)
		}
		if SetMAC(frame, mac[:4]) == nil {
			t.Error("a MAC of 4 bytes is accepted")
		}
	}
}

func TestMABRefusals(t *testing.T) {
	t.Parallel()
	signOn := find(t, "2").frame
	withMAC := find(t, "5").frame
	for name, c := range map[string]struct {
		frame []byte
		want  error
	}{
		"no field 64":   {signOn, ErrNoMAC},
		"empty":         {nil, ErrFraming},
		"header only":   {withMAC[:11], ErrNoMAC},
		"bitmap only":   {withMAC[:21], ErrNoMAC},
		"not a TPDU":    {append([]byte{0x61}, withMAC[1:]...), ErrFraming},
		"short message": {withMAC[:28], ErrNoMAC},
	} {
		if _, err := MAB(c.frame); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	mab, err := MAB(withMAC)
	if err != nil || cap(mab) != len(mab) {
		t.Error("appending to the MAB would overwrite the MAC")
	}
}
