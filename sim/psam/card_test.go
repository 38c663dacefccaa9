package psam

import (
	"bytes"
	"errors"
	"sync"
	"testing"

	"github.com/keyward/keyward/sim/psam/psamtest"
)

func TestFiles(t *testing.T) {
	t.Parallel()
	card := testCard(t)
	for _, tc := range []struct {
		apdu, data string
		want       status
	}{
		{"00B095000E", "60000000000000000001 01010101", swOK},
		{"00B0950A04", "01010101", swOK},
		{"00B0950000", "60000000000000000001 01010101", swOK},
		{"00B095000F", "", swWrongLe | 14},
		{"00B0950E01", "", swWrongOffset},
		{"00B0950003FFFFFF", "", swWrongLength},
		{"00B0960006", "000000000000", swOK},
		{"00B0970019", "", swFileNotFound}, // in the application
		{"00B0000004", "", swNoCurrentFile},
		{"00B0B50004", "", swWrongP1P2},
		{"00A40000020015", "", swOK},
		{"00B0000802", "0001", swOK},
		{"00A4000002DF01", "6F0A8408F04B455957415244", swOK},
		{"00B0970019", "00000000000000000000000000000000000000000000000000", swOK},
		{"00B0980004", "00000000", swOK},
		{"00B095000E", "", swFileNotFound}, // in the master file
		{"00A404000E 315041592E5359532E4444463031", "6F10840E315041592E5359532E4444463031", swOK},
		{"00A4040008F04B455957415244", "6F0A8408F04B455957415244", swOK},
		{"00A4040003A00000", "", swFileNotFound},
		{"00A40000021234", "", swFileNotFound},
		{"00A4000001DF", "", swWrongLength},
		{"00A4050002DF01", "", swWrongP1P2},
		{"00A4000102DF01", "", swWrongP1P2},
		{"0084000008", "", swOK},
		{"0084000005", "", swWrongLength},
		{"0084010004", "", swWrongP1P2},
		{"80D40000020102", "", swWrongClass},
		{"0001000000", "", swUnknownINS},
		{"A0A40000023F00", "", swUnknownCLA},
		{"00A400", "", swWrongLength},
		{"", "", swWrongLength},
		{"00A40000033F00", "", swWrongLength},
		{"00A400000000023F00", "", swWrongLength}, // extended length
	} {
		answer := card.Transmit(psamtest.Hex(t, tc.apdu))
		expect(t, answer, tc.want)
		if want := psamtest.Hex(t, tc.data); tc.want != swOK && len(answer) != 2 || len(want) > 0 && !bytes.Equal(answer[:len(answer)-2], want) {
			t.Errorf("%s: data %X, want %s", tc.apdu, answer[:len(answer)-2], tc.data)
		}
	}
}

func TestNewBlankRefusals(t *testing.T) {
	t.Parallel()
	for _, number := range []string{"", "6000000000000000000", "6000000000000000000A", "600000000000000000011"} {
		if _, err := NewBlank(number, testTransport); err == nil {
			t.Errorf("number %q accepted", number)
		}
	}
	if _, err := NewBlank(testNumber, testTransport[:8]); err == nil {
		t.Error("short transport key accepted")
	}
}

func TestReset(t *testing.T) {
	t.Parallel()
	card := terminalCard(t)
	root := psamtest.Hex(t, rootKey)
	psamtest.LoadWorkKeys(t, card, psamtest.TDES, root, root, root, nil)
	card.Reset()
	expect(t, card.Transmit(pinCommand(0, "1234", "123456789012")), swConditions)
	psamtest.SelectApplication(t, card)
	expect(t, card.Transmit(pinCommand(0, "1234", "123456789012")), swOK)
}

// TestUnsavedChangeIsUndone: when the image cannot be written the card says so and holds what it held before.
func TestUnsavedChangeIsUndone(t *testing.T) {
	t.Parallel()
	card := terminalCard(t)
	root := psamtest.Hex(t, rootKey)
	psamtest.LoadWorkKeys(t, card, psamtest.TDES, root, root, root, nil)
	before := psamtest.Send(t, card, psamtest.Hex(t, readStatus))
	card.persist = func(memory) error { return errors.New("disk full") }
	psamtest.Send(t, card, psamtest.Hex(t, beginTDES))
	other := psamtest.Record(t, psamtest.TDES, root, testTransport)
	psamtest.Send(t, card, psamtest.UpdateRecord(11, other))
	psamtest.Send(t, card, psamtest.UpdateRecord(12, other))
	expect(t, card.Transmit(psamtest.Hex(t, commitSet)), swMemoryFailure)
	control := psamtest.Hex(t, "B0B1B2B3B4B5B6B7B8B9BABBBCBDBEBF")
	expect(t, psamtest.WriteKey(t, card, psamtest.TDES, control, 0x10, 1, psamtest.TDES, testTransport), swMemoryFailure)
	if after := psamtest.Send(t, card, psamtest.Hex(t, readStatus)); !bytes.Equal(before, after) {
		t.Error("an unsaved change stayed")
	}
}

func TestConcurrentCommands(t *testing.T) {
	t.Parallel()
	card := terminalCard(t)
	root := psamtest.Hex(t, rootKey)
	psamtest.LoadWorkKeys(t, card, psamtest.SM4, root, root, root, root)
	want := psamtest.Send(t, card, pinCommand(1, "123456", "123456789012"))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if got := card.Transmit(pinCommand(1, "123456", "123456789012")); !bytes.Equal(got[:len(got)-2], want) {
					t.Error("another block under load")
					return
				}
			}
		})
	}
	wg.Wait()
}

// FuzzTransmit sends a stream of commands: each begins with a length byte. Whatever comes, the card answers at least a
// status word and never with a key.
func FuzzTransmit(f *testing.F) {
	for _, seed := range []string{
		"05 00B095000E", "07 00A4000002DF01 08 80F80001 1B 00DC0B0414 41B1F3D154C3079A2CB4F6D696EB21E9E8934A67",
		"05 0084000004 21 84D400001C AF2C76D7CF95F9001BED2C566AE2B13A1510E82C5FC282E6 5ADFF7A1",
		"0D 801A280108 1122334455667788 0D 80FA000008 1122334455667788", "05 80CE000000", "0B 80C280000612341234AA",
		"05 80C4000000 06 80C600000131", "21 807000001C 89ABCDEF 0005 00000064 06 20260809 101530 01 00 1122334455667788",
	} {
		f.Add(psamtest.Hex(f, seed))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		card := terminalCard(t)
		root := psamtest.Hex(t, rootKey)
		for len(stream) > 0 {
			n := min(int(stream[0]), len(stream)-1)
			answer := card.Transmit(stream[1 : 1+n])
			stream = stream[1+n:]
			if len(answer) < 2 {
				t.Fatalf("answer of %d bytes", len(answer))
			}
			if bytes.Contains(answer, root) || bytes.Contains(answer, testTransport) {
				t.Fatal("a key left the card")
			}
		}
	})
}
