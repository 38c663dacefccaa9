package psam

import (
	"bytes"
	"testing"

	"github.com/keyward/keyward/internal/vectors"
	"github.com/keyward/keyward/sim/psam/psamtest"
)

// TestMACKinds: the MACs beside the UnionPay form, over KAT-3 (facts/unionpay.md §4, "Computed fixtures"), whole and in parts, in both forms.
func TestMACKinds(t *testing.T) {
	t.Parallel()
	const mak16 = "A1A2A3A4A5A6A7A8B1B2B3B4B5B6B7B8"
	root, mab := psamtest.Hex(t, rootKey), psamtest.Hex(t, kat3)
	for name, c := range map[string]struct {
		alg, kind byte
		mak, want string
	}{
		"X9.9":  {psamtest.TDES, macCBC, mak16[:16], "AFC8FC872370679B"},
		"X9.19": {psamtest.TDES, macRetail, mak16, "B805E5A7AF5FD146"},
	} {
		card := terminalCard(t)
		psamtest.LoadWorkKeys(t, card, c.alg, root, root, psamtest.Hex(t, c.mak), nil)
		for form, want := range map[byte]string{formBinary: string(psamtest.Hex(t, c.want)), formHex: c.want[:8]} {
			for _, part := range []int{16, 48, 240} {
				got := kindInParts(t, card, 0xC4, c.kind, form, mab, part)
				if string(got) != want {
					t.Errorf("%s, form %d, parts of %d: %X", name, form, part, got)
				}
			}
			kindInParts(t, card, 0xC6, c.kind, form, append(bytes.Clone(mab), want...), 32)
			wrong := append([]byte{0x80, 0xC6, c.kind, form, 16}, bytes.Repeat([]byte{1}, 16)...)
			expect(t, card.Transmit(wrong), swCheckWrong)
		}
	}
}

func kindInParts(t *testing.T, card *Card, ins, kind, form byte, data []byte, part int) []byte {
	t.Helper()
	for len(data) > part && len(data) >= part+messageMACSize {
		psamtest.Send(t, card, append([]byte{0x80, ins, moreFollows | kind, form, byte(part)}, data[:part]...))
		data = data[part:]
	}
	return psamtest.Send(t, card, append([]byte{0x80, ins, kind, form, byte(len(data))}, data...))
}

// TestCMACVectors are the rows of mac.json for two-key triple DES.
func TestCMACVectors(t *testing.T) {
	t.Parallel()
	used := 0
	for _, v := range vectors.Load(t, "mac.json").Group(t, "tdes_cmac") {
		key := vectors.Hex(t, v.In, "key")
		if len(key) != algTDES.keySize() {
			continue
		}
		used++
		got, err := wholeMAC(macCMAC, algTDES, key, vectors.Hex(t, v.In, "msg"))
		if want := vectors.Hex(t, v.Out, "mac"); err != nil || !bytes.HasPrefix(got, want) {
			t.Errorf("%s: %X (%v)", v.ID, got, err)
		}
	}
	if used == 0 {
		t.Error("no vector used")
	}
}

// TestSM4CBCMAC are the rows of mac.json.
func TestSM4CBCMAC(t *testing.T) {
	t.Parallel()
	used := 0
	for _, v := range vectors.Load(t, "mac.json").Group(t, "sm4_cbc_mac") {
		if _, ok := v.In["iv"]; ok || vectors.Int(v.In, "pad", 1) != 1 {
			continue // the dialect's MACs start from zeros and pad with zeros
		}
		used++
		got, err := wholeMAC(macCBC, algSM4, vectors.Hex(t, v.In, "key"), vectors.Hex(t, v.In, "msg"))
		if want := vectors.Hex(t, v.Out, "mac"); err != nil || !bytes.HasPrefix(got, want) {
			t.Errorf("%s: %X (%v)", v.ID, got, err)
		}
	}
	if used == 0 {
		t.Error("no vector used")
	}
}

func TestMACKindRefusals(t *testing.T) {
	t.Parallel()
	card, root := terminalCard(t), psamtest.Hex(t, rootKey)
	psamtest.LoadWorkKeys(t, card, psamtest.TDES, root, root, root[:8], nil)
	expect(t, card.Transmit([]byte{0x80, 0xC4, 0x04, 0, 1, 0x31}), swWrongP1P2)
	expect(t, card.Transmit([]byte{0x80, 0xC4, 0x01, 2, 1, 0x31}), swWrongP1P2)
	expect(t, card.Transmit([]byte{0x80, 0xC4, 0x00, 1, 1, 0x31}), swWrongP1P2)  // the UnionPay form has characters only
	expect(t, card.Transmit([]byte{0x80, 0xC4, 0x02, 1, 1, 0x31}), swConditions) // X9.19 with a single-length key
	part := append([]byte{0x80, 0xC4, 0x81, 1, 8}, make([]byte, 8)...)
	psamtest.Send(t, card, part)
	expect(t, card.Transmit([]byte{0x80, 0xC4, 0x03, 1, 1, 0x31}), swConditions) // another kind in the middle
	for range maxMACData / 8 {
		psamtest.Send(t, card, part)
	}
	expect(t, card.Transmit(part), swConditions)
}
