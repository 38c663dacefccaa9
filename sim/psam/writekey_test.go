package psam

import (
	"bytes"
	"testing"

	"github.com/keyward/keyward/sim/psam/psamtest"
)

const testNumber = "60000000000000000001"

var testTransport = bytes.Repeat([]byte{0x33}, 16)

func testCard(t testing.TB) *Card {
	t.Helper()
	card, err := NewBlank(testNumber, testTransport)
	if err != nil {
		t.Fatal(err)
	}
	return card
}

// withControl makes a card whose application has the control key of the published commands of facts/psam.md §3.2, and a
// source of challenges that always gives 11223344.
func withControl(t *testing.T, alg byte) *Card {
	t.Helper()
	card := testCard(t)
	psamtest.SelectApplication(t, card)
	control := psamtest.Hex(t, "404142434445464748494A4B4C4D4E4F")
	expect(t, psamtest.WriteKey(t, card, psamtest.TDES, testTransport, 0, 0, alg, control), swOK)
	card.random = fixedChallenge{}
	psamtest.Send(t, card, []byte{0x00, 0x84, 0x00, 0x00, 0x04})
	return card
}

type fixedChallenge struct{}

func (fixedChallenge) Read(p []byte) (int, error) {
	return copy(p, []byte{0x11, 0x22, 0x33, 0x44, 0, 0, 0, 0}), nil
}

func expect(t testing.TB, answer []byte, want status) {
	t.Helper()
	if len(answer) < 2 {
		t.Fatalf("answer of %d bytes", len(answer))
	}
	if got := status(answer[len(answer)-2])<<8 | status(answer[len(answer)-1]); got != want {
		t.Fatalf("status %04X, want %04X", uint16(got), uint16(want))
	}
}

// TestWriteKeyVectors sends the three commands of facts/psam.md §3.2 as they stand there.
func TestWriteKeyVectors(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		control byte
		apdu    string
		usage   byte
		id      byte
		key     string
	}{
		{"3DES key", psamtest.TDES, "84D400001C AF2C76D7CF95F9001BED2C566AE2B13A1510E82C5FC282E6 5ADFF7A1", 0x22, 1, "0123456789ABCDEFFEDCBA9876543210"},
		{"DES key", psamtest.TDES, "84D4000014 0538AB9515B5A04F72828A2FC8809AC6 F86BE58D", 0x28, 1, "0123456789ABCDEF"},
		{"SM4 key, extrapolated", psamtest.SM4, "84D4000024 C7E204E5F1E5920880104522AA8F5A18FC488BAAB07B8B39865B89D58FAD0DF8 1DFE4E45", 0x62, 0x41, "0123456789ABCDEFFEDCBA9876543210"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			card := withControl(t, tc.control)
			apdu := psamtest.Hex(t, tc.apdu)
			broken := bytes.Clone(apdu)
			broken[7] ^= 1
			expect(t, card.Transmit(broken), swWrongMAC)
			psamtest.Send(t, card, []byte{0x00, 0x84, 0x00, 0x00, 0x04})
			expect(t, card.Transmit(apdu), swOK)
			got := card.mem.key(application, tc.usage, tc.id)
			if got == nil || !bytes.Equal(got.Value, psamtest.Hex(t, tc.key)) {
				t.Fatal("the card does not hold the key of the vector")
			}
			// The same bytes again: the challenge is spent.
			expect(t, card.Transmit(apdu), swNoChallenge)
		})
	}
}

func TestWriteKeyHierarchy(t *testing.T) {
	t.Parallel()
	card := testCard(t)
	tmk := psamtest.Hex(t, "0123456789ABCDEFFEDCBA9876543210")
	psamtest.Issue(t, card, testTransport, tmk, tmk)
	for _, tc := range []struct {
		id   byte
		want string
	}{{0x01, "08D7B4FB"}, {0x41, "2677F46B"}} {
		kcv := psamtest.Send(t, card, []byte{0x80, 0xF6, 0x10, tc.id, 0x04})
		if !bytes.Equal(kcv, psamtest.Hex(t, tc.want)) {
			t.Errorf("terminal master key %02X: KCV %X, want %s", tc.id, kcv, tc.want)
		}
	}
	appControl := psamtest.Hex(t, "B0B1B2B3B4B5B6B7B8B9BABBBCBDBEBF")
	cardControl := psamtest.Hex(t, "A0A1A2A3A4A5A6A7A8A9AAABACADAEAF")
	// The application control key must not replace itself, nor the card control key write a master key.
	expect(t, psamtest.WriteKey(t, card, psamtest.TDES, appControl, 0, 0, psamtest.TDES, tmk), swConditions)
	expect(t, psamtest.WriteKey(t, card, psamtest.TDES, cardControl, 0x10, 1, psamtest.TDES, tmk), swConditions)
	// The transport key has been replaced.
	expect(t, psamtest.WriteKey(t, card, psamtest.TDES, testTransport, 0x10, 1, psamtest.TDES, tmk), swWrongMAC)
	// A twin with the wrong id or algorithm.
	expect(t, psamtest.WriteKey(t, card, psamtest.TDES, appControl, 0x10, 0x41, psamtest.TDES, tmk), swWrongData)
	expect(t, psamtest.WriteKey(t, card, psamtest.TDES, appControl, 0x10, 0x02, psamtest.TDES, tmk), swWrongData)
	// A master key has no place in the master file.
	psamtest.Send(t, card, []byte{0x00, 0xA4, 0x00, 0x00, 0x02, 0x3F, 0x00})
	expect(t, psamtest.WriteKey(t, card, psamtest.TDES, cardControl, 0x10, 1, psamtest.TDES, tmk), swWrongData)
}

func TestWriteKeyLocksAfterThreeWrongMACs(t *testing.T) {
	t.Parallel()
	card := testCard(t)
	wrong := bytes.Repeat([]byte{0x77}, 16)
	key := bytes.Repeat([]byte{0x12}, 16)
	for range maxTries - 1 {
		expect(t, psamtest.WriteKey(t, card, psamtest.TDES, wrong, 0, 0, psamtest.TDES, key), swWrongMAC)
	}
	// A right MAC gives the tries back.
	expect(t, psamtest.WriteKey(t, card, psamtest.TDES, testTransport, 1, 1, psamtest.TDES, key), swOK)
	for range maxTries {
		expect(t, psamtest.WriteKey(t, card, psamtest.TDES, wrong, 0, 0, psamtest.TDES, key), swWrongMAC)
	}
	expect(t, psamtest.WriteKey(t, card, psamtest.TDES, testTransport, 0, 0, psamtest.TDES, key), swKeyLocked)
}

func TestChallengeServesOnlyTheNextCommand(t *testing.T) {
	t.Parallel()
	card := testCard(t)
	challenge := psamtest.Send(t, card, []byte{0x00, 0x84, 0x00, 0x00, 0x04})
	key := bytes.Repeat([]byte{0x12}, 16)
	apdu := psamtest.WriteKeyCommand(t, challenge, psamtest.TDES, testTransport, 0, 0, psamtest.TDES, key)
	psamtest.Send(t, card, []byte{0x00, 0xB0, 0x95, 0x00, 0x0E})
	expect(t, card.Transmit(apdu), swNoChallenge)
	// The transport key still works, so nothing was written and no try was lost.
	expect(t, psamtest.WriteKey(t, card, psamtest.TDES, testTransport, 0, 0, psamtest.TDES, key), swOK)
}

// TestKeyBlockRefusals builds commands whose MAC is right and whose content is not.
func TestKeyBlockRefusals(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte{0x12}, 16)
	for _, tc := range []struct {
		name       string
		usage, alg byte
		key        []byte
		want       status
	}{
		{"unknown algorithm", 0x28, 0x02, key, swWrongData},
		{"length for another algorithm", 0x28, 0x00, key[:8], swWrongData},
		{"purchase key without level", 0x02, 0x00, key, swWrongData},
		{"empty key", 0x28, 0x00, nil, swWrongData},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			card := withControl(t, psamtest.TDES)
			control := psamtest.Hex(t, "404142434445464748494A4B4C4D4E4F")
			expect(t, psamtest.WriteKey(t, card, psamtest.TDES, control, tc.usage, 1, tc.alg, tc.key), tc.want)
		})
	}
}
