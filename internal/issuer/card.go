package issuer

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/keyward/keyward/keys"
)

// Status words (facts/psam.md §3.6).
const (
	swOK          = 0x9000
	swKeyLocked   = 0x6983
	swWrongMAC    = 0x6988
	swKeyNotFound = 0x6A88
	swUnknown     = 0x6D00
)

// Commands (docs/psam-sim.md, facts/psam.md §3.1).
var (
	selectMF     = []byte{0x00, 0xA4, 0x00, 0x00, 0x02, 0x3F, 0x00} // SELECT 3F00, the master file
	selectApp    = []byte{0x00, 0xA4, 0x00, 0x00, 0x02, 0xDF, 0x01} // SELECT DF01, the application
	readNumber   = []byte{0x00, 0xB0, 0x95, 0x00, 0x0A}             // READ BINARY 0015, PSAM number 10
	getChallenge = []byte{0x00, 0x84, 0x00, 0x00, 0x04}             // GET CHALLENGE, 4 bytes
)

// kcvBytes is what READ KCV answers.
const kcvBytes = 4

// target is a key to write.
type target struct {
	step   string // as the key service names it
	what   string // for people
	file   []byte // the SELECT before
	usage  byte   // facts/psam.md §2.4, docs/psam-sim.md for 10
	id     byte
	locked string // what a refused MAC means
}

var (
	cardControl = target{"card-control", "the card control key", selectMF, 0x00, 0x00,
		"the card does not hold the maker's transport key: it is from another maker, or another issuer has written it"}
	appControl = target{"application-control", "the application control key", selectApp, 0x00, 0x00,
		"the card's control key is not ours: the card was written by another system"}
	masterKey = target{"master", "the terminal master key", selectApp, 0x10, 0x01,
		"the application control key in the card is not ours: the card was written by another system"}
	// masterKeySM4 is its SM4 twin (facts/psam.md §1.2: id + 40).
	masterKeySM4 = target{"master", "the terminal master key", selectApp, 0x10, 0x41, masterKey.locked}
)

// Errors of cards that callers act on.
var (
	errCardGone    = errors.New("the card or the reader does not answer")
	errCardRefuses = errors.New("the card refuses")
)

// chip speaks with one card.
type chip struct{ card Card }

// send transmits and returns data and status word.
func (c chip) send(ctx context.Context, what string, apdu []byte) ([]byte, int, error) {
	answer, err := c.card.Transmit(ctx, apdu)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w: %w", what, errCardGone, err)
	}
	if len(answer) < 2 {
		return nil, 0, fmt.Errorf("%s: %w: an answer of %d bytes", what, errCardGone, len(answer))
	}
	cut := len(answer) - 2
	return answer[:cut], int(answer[cut])<<8 | int(answer[cut+1]), nil
}

// must is send for commands that have to succeed with n bytes of data, or with any number when n is below zero.
func (c chip) must(ctx context.Context, what string, apdu []byte, n int) ([]byte, error) {
	data, sw, err := c.send(ctx, what, apdu)
	if err == nil && sw != swOK {
		err = fmt.Errorf("%s: %w with status %04X", what, errCardRefuses, sw)
	}
	if err == nil && n >= 0 && len(data) != n {
		err = fmt.Errorf("%s: %w: %d bytes, want %d", what, errCardRefuses, len(data), n)
	}
	return data, err
}

// checkNumber refuses a card that is not the one to be issued.
func (c chip) checkNumber(ctx context.Context, psamNo string) error {
	if _, err := c.must(ctx, "select the master file", selectMF, -1); err != nil {
		return err
	}
	number, err := c.must(ctx, "read the card's number", readNumber, len(psamNo)/2)
	if err != nil {
		return err
	}
	if want, err := hex.DecodeString(psamNo); err != nil || !bytes.Equal(number, want) {
		return fmt.Errorf("%w: it is card %X, not %s; put the right card into the reader", errCardRefuses, number, psamNo)
	}
	return nil
}

// holds says whether the card has the key already, by READ KCV 80 F6 usage id 04. A card without that key or without that command
// does not, as far as anybody can tell.
func (c chip) holds(ctx context.Context, t target, kcv keys.KCV) (bool, error) {
	data, sw, err := c.send(ctx, "read the check value of "+t.what, []byte{0x80, 0xF6, t.usage, t.id, kcvBytes})
	switch {
	case err != nil:
		return false, err
	case sw == swKeyNotFound || sw == swUnknown:
		return false, nil
	case sw != swOK || len(data) != kcvBytes:
		return false, fmt.Errorf("read the check value of %s: %w with status %04X", t.what, errCardRefuses, sw)
	}
	return kcv.Matches(keys.KCV(strings.ToUpper(hex.EncodeToString(data)))), nil
}

// scripter makes the command that writes a key.
type scripter func(ctx context.Context, step, challenge string) ([]byte, error)

// write puts a key into the card unless it is there. The check value is asked first, because a wrong MAC costs one of the card's few
// tries; and again after a refusal, because an answer may have been lost on the way.
func (c chip) write(ctx context.Context, t target, kcv keys.KCV, script scripter) (already bool, err error) {
	if _, err := c.must(ctx, "select the file of "+t.what, t.file, -1); err != nil {
		return false, err
	}
	if already, err = c.holds(ctx, t, kcv); already || err != nil {
		return already, err
	}
	challenge, err := c.must(ctx, "ask the card for a challenge", getChallenge, 4)
	if err != nil {
		return false, err
	}
	apdu, err := script(ctx, t.step, strings.ToUpper(hex.EncodeToString(challenge)))
	if err != nil {
		return false, err
	}
	_, sw, err := c.send(ctx, "write "+t.what, apdu)
	if err != nil || sw == swOK {
		return false, err
	}
	if held, holdsErr := c.holds(ctx, t, kcv); held && holdsErr == nil {
		return true, nil
	}
	switch sw {
	case swWrongMAC:
		return false, fmt.Errorf("write %s: %w the MAC: %s", t.what, errCardRefuses, t.locked)
	case swKeyLocked:
		return false, fmt.Errorf("write %s: %w: its control key is locked after too many wrong MACs; use another card", t.what, errCardRefuses)
	}
	return false, fmt.Errorf("write %s: %w with status %04X", t.what, errCardRefuses, sw)
}
