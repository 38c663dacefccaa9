package pos

import (
	"errors"
	"fmt"
	"strings"
)

// Card is the PSAM in the terminal's slot: it takes a command APDU and gives back data and status word.
type Card interface {
	Transmit(apdu []byte) []byte
}

// Records of the work keys in the card (facts/psam.md §4) and their names for people.
const (
	recordPIN   byte = 11
	recordMAC   byte = 12
	recordTrack byte = 13
)

var keyNames = map[byte]string{recordPIN: "PIN key", recordMAC: "MAC key", recordTrack: "track key"}

// cardStatus is a status word other than 9000.
type cardStatus struct {
	step string
	sw   uint16
}

func (e *cardStatus) Error() string {
	hint := map[uint16]string{
		0x6A88: "the card holds no such key; issue the card, or sign on, first",
		0x6985: "the card refuses this now",
		0x6581: "the card could not be saved; is the disk full?",
		0x9302: "the check failed",
	}[e.sw]
	if hint == "" {
		hint = "see docs/psam-sim.md"
	}
	return fmt.Sprintf("card: %s: status %04X (%s)", e.step, e.sw, hint)
}

// swIs says that err is this status word of the card.
func swIs(err error, sw uint16) bool {
	var status *cardStatus
	return errors.As(err, &status) && status.sw == sw
}

// reader drives a card. Every operation selects the application first: the slot may have been used by somebody else.
type reader struct {
	card  Card
	model Model
}

func (r reader) send(step string, apdu []byte) ([]byte, error) {
	answer := r.card.Transmit(apdu)
	if len(answer) < 2 {
		return nil, fmt.Errorf("card: %s: no status word; is the card in its slot?", step)
	}
	data, sw := answer[:len(answer)-2], uint16(answer[len(answer)-2])<<8|uint16(answer[len(answer)-1])
	if sw != 0x9000 {
		return nil, &cardStatus{step: step, sw: sw}
	}
	return data, nil
}

func (r reader) selectApplication() error {
	_, err := r.send("select application", []byte{0x00, 0xA4, 0x00, 0x00, 0x02, 0xDF, 0x01})
	return err
}

// Forms of the PIN block in the card.
const (
	pinISO0 byte = 0x00 // under SM4 with 8 zero bytes behind
	pinWide byte = 0x01
)

// pinBlock has the card make a PIN block: ISO 9564-1 format 0 (facts/unionpay.md §5), or the wide form of SM4. Without a PAN its digits
// are zero.
func (r reader) pinBlock(form byte, pin, pan string) (string, error) {
	if pan != "" && (len(pan) < 13 || len(pan) > 19) || !digitsOnly(pan) || !digitsOnly(pin) || len(pin) < 4 || len(pin) > 12 {
		return "", errors.New("a PIN has 4 to 12 digits and a card number 13 to 19")
	}
	account := strings.Repeat("0", 12)
	if pan != "" {
		account = pan[len(pan)-13 : len(pan)-1]
	}
	if err := r.selectApplication(); err != nil {
		return "", err
	}
	apdu := []byte{0x80, 0xC2, form, 0x00, byte(1 + len(pin) + len(account)), byte(len(pin))}
	block, err := r.send("PIN block", append(append(apdu, pin...), account...))
	return string(block), err
}

// mac has the card compute F64 over the MAB.
func (r reader) mac(mab []byte) (string, error) {
	out, err := r.macCommand("MAC", 0xC4, mab, 0)
	return string(out), err
}

// verify has the card check F64 of an answer. The error is status 9302 when the MAC is wrong.
func (r reader) verify(mab []byte, mac string) error {
	_, err := r.macCommand("check MAC", 0xC6, append(append([]byte(nil), mab...), mac...), len(mac))
	return err
}

// macCommand sends data in parts of whole blocks; the last part keeps at least keep bytes.
func (r reader) macCommand(step string, ins byte, data []byte, keep int) ([]byte, error) {
	const part = 240 // a whole number of 8- and of 16-byte blocks, within a short APDU
	if err := r.selectApplication(); err != nil {
		return nil, err
	}
	kind, form := r.model.macParameters()
	for len(data) > part && len(data) >= part+keep {
		if _, err := r.send(step, append([]byte{0x80, ins, 0x80 | kind, form, part}, data[:part]...)); err != nil {
			return nil, err
		}
		data = data[part:]
	}
	return r.send(step, append([]byte{0x80, ins, kind, form, byte(len(data))}, data...))
}

// track has the card encipher the last 16 digits of a track, 32 under SM4, not counting those of the final byte
// (facts/unionpay.md §5).
func (r reader) track(track string, sm4 bool) (string, error) {
	size := 16
	if sm4 {
		size = 32
	}
	end := len(track) - 2
	if len(track)%2 != 0 {
		end = len(track) - 1
	}
	if end < size {
		return "", errors.New("the track is shorter than the block to encipher")
	}
	block, err := packDigits(track[end-size:end], llTrack)
	if err != nil {
		return "", fmt.Errorf("track: %w", err)
	}
	if err := r.selectApplication(); err != nil {
		return "", err
	}
	out, err := r.send("encipher track", append([]byte{0x80, 0xC8, 0x00, 0x00, byte(size / 2)}, block...))
	if err != nil {
		return "", err
	}
	return track[:end-size] + hexText(out) + track[end:], nil
}

// keyRecord is one work key of a sign-on answer: cipher and check value as the card wants them.
type keyRecord struct {
	record  byte
	content []byte
}

// keySetError says which keys of a set the card refused.
type keySetError struct{ names []string }

func (e *keySetError) Error() string {
	return "the card refused the check value of the " + strings.Join(e.names, " and the ") +
		": the master keys of card and host differ, or the answer was damaged"
}

// loadKeys presents a set of work keys. All keys are shown to the card also after a refusal, so that the error names
// every wrong one; the card takes the set only when all are right.
func (r reader) loadKeys(tmkID byte, set []keyRecord) error {
	if err := r.selectApplication(); err != nil {
		return err
	}
	if _, err := r.send("begin work key set", []byte{0x80, 0xF8, 0x00, tmkID}); err != nil {
		return err
	}
	var refused []string
	for _, key := range set {
		name := keyNames[key.record]
		_, err := r.send("write "+name, append([]byte{0x00, 0xDC, key.record, 0x04, byte(len(key.content))}, key.content...))
		switch {
		case swIs(err, 0x9302):
			refused = append(refused, name)
		case err != nil:
			return err
		}
	}
	if len(refused) > 0 {
		return &keySetError{names: refused}
	}
	_, err := r.send("commit work key set", []byte{0x80, 0xF8, 0x01, 0x00})
	return err
}
