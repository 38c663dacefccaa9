package psam

import (
	"bytes"
	"testing"

	"github.com/keyward/keyward/sim/psam/psamtest"
)

const (
	beginTDES  = "80F80001"
	commitSet  = "80F80100"
	readStatus = "80CE000000"
)

// TestWorkKeyRecordVector is the 20-byte record of facts/psam.md §4.
func TestWorkKeyRecordVector(t *testing.T) {
	t.Parallel()
	card := terminalCard(t)
	record := psamtest.Hex(t, "41B1F3D154C3079A2CB4F6D696EB21E9E8934A67")
	psamtest.Send(t, card, psamtest.Hex(t, beginTDES))
	psamtest.Send(t, card, psamtest.UpdateRecord(11, record))
	psamtest.Send(t, card, psamtest.UpdateRecord(12, record))
	psamtest.Send(t, card, psamtest.Hex(t, commitSet))
	// PIN 123456, PAN 6222020200112230002, same paragraph.
	if got := psamtest.Send(t, card, pinCommand(0, "123456", "020011223000")); !bytes.Equal(got, psamtest.Hex(t, "53DA77F285117E4A")) {
		t.Errorf("PIN block %X", got)
	}
	if got := psamtest.Send(t, card, append([]byte{0x80, 0xC4, 0, 0, 34}, "0200603800000000C00000160000000000"...)); string(got) != "A967AFE3" {
		t.Errorf("MAC %s", got)
	}
	want := psamtest.Hex(t, "4D100100 08D7B4FB 4D104104 2677F46B 570B1000 E8934A67 570C1000 E8934A67")
	if got := psamtest.Send(t, card, psamtest.Hex(t, readStatus)); !bytes.Equal(got, want) {
		t.Errorf("status %X, want %X", got, want)
	}
}

// TestWrongKCVKeepsTheOldSet presents a set with one wrong check value: the card names it, refuses the set and goes on
// with the old keys.
func TestWrongKCVKeepsTheOldSet(t *testing.T) {
	t.Parallel()
	root := psamtest.Hex(t, rootKey)
	old := psamtest.Hex(t, "1A2B3C4D5E6F708192A3B4C5D6E7F809")
	fresh := psamtest.Hex(t, "0102030405060708090A0B0C0D0E0F10")
	for _, wrong := range []byte{recordPIN, recordMAC, recordTrack} {
		card := terminalCard(t)
		psamtest.LoadWorkKeys(t, card, psamtest.TDES, root, old, old[:8], old)
		before := psamtest.Send(t, card, psamtest.Hex(t, readStatus))
		psamtest.Send(t, card, psamtest.Hex(t, beginTDES))
		for _, record := range []byte{recordPIN, recordMAC, recordTrack} {
			content, want := psamtest.Record(t, psamtest.TDES, root, fresh), swOK
			if record == wrong {
				content[len(content)-1] ^= 1
				want = swCheckWrong
			}
			expect(t, card.Transmit(psamtest.UpdateRecord(record, content)), want)
		}
		expect(t, card.Transmit(psamtest.Hex(t, commitSet)), swConditions)
		expect(t, card.Transmit(psamtest.Hex(t, commitSet)), swConditions)
		if after := psamtest.Send(t, card, psamtest.Hex(t, readStatus)); !bytes.Equal(before, after) {
			t.Errorf("record %d wrong: the keys in use changed", wrong)
		}
	}
}

func TestWorkKeySetRefusals(t *testing.T) {
	t.Parallel()
	card := terminalCard(t)
	root := psamtest.Hex(t, rootKey)
	record := psamtest.Record(t, psamtest.TDES, root, root)
	send := func(apdu []byte, want status) {
		t.Helper()
		expect(t, card.Transmit(apdu), want)
	}
	send(psamtest.UpdateRecord(11, record), swConditions) // no set begun
	send(psamtest.Hex(t, commitSet), swConditions)
	send(psamtest.Hex(t, "80F80002"), swKeyNotFound)
	send(psamtest.Hex(t, beginTDES), swOK)
	send(psamtest.UpdateRecord(10, record), swRecordNotFound)
	send(psamtest.UpdateRecord(14, record), swRecordNotFound)
	send(psamtest.UpdateRecord(11, record[:16]), swWrongLength)
	send(psamtest.UpdateRecord(11, record), swOK)
	send(psamtest.Hex(t, commitSet), swConditions) // the MAC key is missing
	send(psamtest.Hex(t, beginTDES), swOK)
	send(psamtest.UpdateRecord(11, record), swOK)
	send(psamtest.UpdateRecord(12, psamtest.Record(t, psamtest.TDES, root, root[:8])), swOK)
	send(psamtest.Hex(t, "80F80200"), swOK)
	send(psamtest.Hex(t, commitSet), swConditions) // forgotten
	send(psamtest.Hex(t, "80F80041"), swOK)
	send(psamtest.UpdateRecord(11, psamtest.Record(t, psamtest.TDES, root, root[:8])), swWrongLength) // SM4 has no 8-byte key
	send(psamtest.Hex(t, "80F80301"), swWrongP1P2)
	send(pinCommand(0, "1234", "123456789012"), swKeyNotFound)
	send(psamtest.Hex(t, "00A40000023F00"), swOK)
	send(psamtest.Hex(t, beginTDES), swConditions)
	send(psamtest.Hex(t, readStatus), swConditions)
	send(pinCommand(0, "1234", "123456789012"), swConditions)
}

// TestNewMasterKeyDropsWorkKeys: work keys that came under a replaced master key must not stay usable.
func TestNewMasterKeyDropsWorkKeys(t *testing.T) {
	t.Parallel()
	card := terminalCard(t)
	root := psamtest.Hex(t, rootKey)
	psamtest.LoadWorkKeys(t, card, psamtest.TDES, root, root, root, nil)
	control := psamtest.Hex(t, "B0B1B2B3B4B5B6B7B8B9BABBBCBDBEBF")
	expect(t, psamtest.WriteKey(t, card, psamtest.TDES, control, 0x10, 1, psamtest.TDES, testTransport), swOK)
	expect(t, card.Transmit(pinCommand(0, "1234", "123456789012")), swKeyNotFound)
}
