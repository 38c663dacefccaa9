package psam

import (
	"bytes"
	"testing"

	"github.com/keyward/keyward/internal/vectors"
	"github.com/keyward/keyward/sim/psam/psamtest"
)

// rootKey is K of facts/psam.md §1.4, a public test value.
const rootKey = "0123456789ABCDEFFEDCBA9876543210"

// loadKey writes a key into the application of a card whose application control key is that of withControl.
func loadKey(t *testing.T, card *Card, usage, id, alg byte, key []byte) {
	t.Helper()
	control := psamtest.Hex(t, "404142434445464748494A4B4C4D4E4F")
	expect(t, psamtest.WriteKey(t, card, psamtest.TDES, control, usage, id, alg, key), swOK)
}

// TestKCV checks every check value of kcv.json for DES, double-length DES and SM4 through 80 F6.
func TestKCV(t *testing.T) {
	t.Parallel()
	algs := map[string]byte{"DES": psamtest.DES, "TDES2": psamtest.TDES, "SM4": psamtest.SM4}
	file := vectors.Load(t, "kcv.json")
	for _, group := range []string{"tdes_ecb_zero", "sm4_ecb_zero", "all_zero_key"} {
		used := 0
		for _, v := range file.Group(t, group) {
			alg, ok := algs[vectors.Str(v.In, "alg")]
			if !ok {
				continue // Triple-length DES keys do not exist in this card.
			}
			used++
			card := withControl(t, psamtest.TDES)
			loadKey(t, card, 0x28, 1, alg, vectors.Hex(t, v.In, "key"))
			got := psamtest.Send(t, card, []byte{0x80, 0xF6, 0x28, 0x01, 0x04})
			want := vectors.Hex(t, v.Out, "kcv")
			if n := min(len(got), len(want)); n == 0 || !bytes.Equal(got[:n], want[:n]) {
				t.Errorf("%s: KCV %X, want %X", v.ID, got, want)
			}
		}
		if used == 0 {
			t.Errorf("group %s: no vector used", group)
		}
	}
}

// TestDiversification checks the pboc groups of keyderiv.json through 80 1A and 80 FA: a zero block under the temporary
// key is its check value, and the same block under the expected key tells the whole key.
func TestDiversification(t *testing.T) {
	t.Parallel()
	file := vectors.Load(t, "keyderiv.json")
	for group, alg := range map[string]byte{"pboc_tdes": psamtest.TDES, "pboc_sm4": psamtest.SM4} {
		for _, v := range file.Group(t, group) {
			list, _ := v.In["factors"].([]any)
			var factors []byte
			for _, f := range list {
				text, _ := f.(string)
				factors = append(factors, psamtest.Hex(t, text)...)
			}
			card := withControl(t, psamtest.TDES)
			usage := byte(len(list))<<5 | usageBoth
			loadKey(t, card, usage, 1, alg, vectors.Hex(t, v.In, "mk"))
			psamtest.Send(t, card, append([]byte{0x80, 0x1A, usage, 1, byte(len(factors))}, factors...))
			zero := make([]byte, algorithm(alg).blockSize())
			got := psamtest.Send(t, card, append([]byte{0x80, 0xFA, 0, 0, byte(len(zero))}, zero...))
			if want := vectors.Hex(t, v.Out, "kcv"); len(want) == 0 || !bytes.HasPrefix(got, want) {
				t.Errorf("%s: KCV of the child %X, want %X", v.ID, got, want)
			}
			if key := vectors.Hex(t, v.Out, "key"); len(key) > 0 && !bytes.Equal(card.session.temp.value, key) {
				t.Errorf("%s: another child key", v.ID)
			}
		}
	}
}

// TestDescryptVectors is facts/psam.md §3.3: one level, two levels in both orders, and a MAC with start value.
func TestDescryptVectors(t *testing.T) {
	t.Parallel()
	const data = "1122334455667788"
	card := withControl(t, psamtest.TDES)
	loadKey(t, card, 0x28, 1, psamtest.TDES, psamtest.Hex(t, rootKey))
	loadKey(t, card, 0x48, 1, psamtest.TDES, psamtest.Hex(t, rootKey))
	check := func(init, apdu, want string) {
		t.Helper()
		psamtest.Send(t, card, psamtest.Hex(t, init))
		if got := psamtest.Send(t, card, psamtest.Hex(t, apdu)); !bytes.Equal(got, psamtest.Hex(t, want)) {
			t.Errorf("%s then %s: %X, want %s", init, apdu, got, want)
		}
	}
	const oneLevel = "801A280108 1122334455667788"
	const twoLevels = "801A480110 1122334455667788 0102030405060708"
	check(oneLevel, "80FA000008"+data, "4EB2BD8808787CE2")
	check(twoLevels, "80FA000008"+data, "B5B9F4F3033F9873")
	check(oneLevel, "80FA050018 1122334400000000 04D696000A012300033D118000000000", "BEB1BA74")
	card.SetProfile(Profile{LastFactorFirst: true})
	check(twoLevels, "80FA000008"+data, "341EB71DE12F0544")
	// The same MAC in three commands: first with the start value, last without.
	psamtest.Send(t, card, psamtest.Hex(t, oneLevel))
	psamtest.Send(t, card, psamtest.Hex(t, "80FA070010 1122334400000000 04D696000A012300"))
	got := psamtest.Send(t, card, psamtest.Hex(t, "80FA010008 033D118000000000"))
	if !bytes.Equal(got, psamtest.Hex(t, "BEB1BA74")) {
		t.Errorf("MAC in parts: %X", got)
	}
}

func TestDescryptRefusals(t *testing.T) {
	t.Parallel()
	card := withControl(t, psamtest.TDES)
	loadKey(t, card, 0x26, 1, psamtest.TDES, psamtest.Hex(t, rootKey))
	loadKey(t, card, 0x10, 1, psamtest.TDES, psamtest.Hex(t, rootKey))
	send := func(apdu string, want status) {
		t.Helper()
		expect(t, card.Transmit(psamtest.Hex(t, apdu)), want)
	}
	send("80FA000008 1122334455667788", swConditions) // no temporary key yet
	send("801A1001", swConditions)                    // the terminal master key enciphers nothing
	send("801A2201081122334455667788", swConditions)  // purchase keys have their own command
	send("801A260108112233445566", swWrongLength)
	send("801A260110 1122334455667788 0102030405060708", swWrongLength)
	send("801A260208 1122334455667788", swKeyNotFound)
	send("801A260108 1122334455667788", swOK)
	send("80FA000008 1122334455667788", swConditions) // a MAC key enciphers nothing
	send("80FA080008 1122334455667788", swWrongP1P2)
	send("80FA010008 1122334455667788", swConditions) // a last part without a first
	send("80FA050008 1122334455667788", swWrongLength)
	send("80FA050009 112233445566778899", swWrongLength)
	send("80FA050010 0000000000000000 1122334455667788", swOK)
	send("00A40000023F00", swOK)
	send("80FA050010 0000000000000000 1122334455667788", swConditions) // lost with the DF
}

// TestPurchaseVectors is facts/psam.md §3.4, both algorithms.
func TestPurchaseVectors(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name       string
		alg        byte
		mac1, mac2 string
	}{
		{"3DES", psamtest.TDES, "749FBE9D", "6A82119E"},
		{"SM4", psamtest.SM4, "FB2EED96", "744C9CCE"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			card := withControl(t, psamtest.TDES)
			loadKey(t, card, 0x22, 1, tc.alg, psamtest.Hex(t, rootKey))
			card.mem.Sequence = 0x2A
			card.mem.Files[terminalNo] = psamtest.Hex(t, "012300033D11")
			apdu := psamtest.Hex(t, "807000001C 89ABCDEF 0005 00000064 06 20260809 101530 01"+
				string("0123456789ABCDEF"[tc.alg>>4])+string("0123456789ABCDEF"[tc.alg&0xF])+"1122334455667788")
			apdu[4] = byte(len(apdu) - 5)
			got := psamtest.Send(t, card, apdu)
			if want := psamtest.Hex(t, "0000002A"+tc.mac1); !bytes.Equal(got, want) {
				t.Fatalf("sequence and MAC1 %X, want %X", got, want)
			}
			wrong := psamtest.Hex(t, "8072000004 00000000")
			expect(t, card.Transmit(wrong), swCheckWrong)
			psamtest.Send(t, card, apdu)
			psamtest.Send(t, card, psamtest.Hex(t, "8072000004"+tc.mac2))
			sequence := psamtest.Send(t, card, []byte{0x00, 0xB0, 0x98, 0x00, 0x04})
			if !bytes.Equal(sequence, []byte{0, 0, 0, 0x2B}) {
				t.Errorf("sequence %X after a purchase", sequence)
			}
		})
	}
}

// TestUpdateBinaryVector is the secure messaging vector of facts/psam.md §3.4.
func TestUpdateBinaryVector(t *testing.T) {
	t.Parallel()
	card := testCard(t)
	key := psamtest.Hex(t, "404142434445464748494A4B4C4D4E4F")
	expect(t, psamtest.WriteKey(t, card, psamtest.TDES, testTransport, 1, 1, psamtest.TDES, key), swOK)
	card.random = fixedChallenge{}
	psamtest.Send(t, card, []byte{0x00, 0x84, 0x00, 0x00, 0x04})
	psamtest.Send(t, card, psamtest.Hex(t, "04D696000A 012300033D11 81AADEE3"))
	if got := psamtest.Send(t, card, []byte{0x00, 0xB0, 0x96, 0x00, 0x06}); !bytes.Equal(got, psamtest.Hex(t, "012300033D11")) {
		t.Errorf("terminal number %X", got)
	}
}
