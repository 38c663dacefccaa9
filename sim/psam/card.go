// Package psam is the virtual PSAM card: it answers APDUs as a PBOC PSAM with a terminal master key does, so that the
// issuer and the terminals of the project meet a card that checks what a real one checks.
//
// Sources: facts/psam.md for files, keys, secure messaging, status words and the work-key records. Where the facts
// leave a gap (algorithm byte of SM4, usage of the terminal master key, all terminal functions) the choice is ours and
// written down in docs/psam-sim.md. The package shares no codec and no SM library with the code that it tests.
//
// A simulator and nothing else: the image files are enciphered under a constant of this package, which keeps keys
// from standing readable on a disk and protects them from nobody who can read this source.
package psam

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
)

// psamNoDigits is the length of a PSAM number: 10 bytes of BCD in file 0015 (facts/psam.md §2.1).
const psamNoDigits = 20

// Profile holds the points in which sources about real cards disagree.
type Profile struct {
	// LastFactorFirst makes INIT_FOR_DESCRYPT apply the factors of its data from the last to the first, as cards of
	// the specification's layout must (facts/psam.md §1.1). The default is first to last.
	LastFactorFirst bool `json:"last_factor_first"`
}

// Card is one virtual PSAM. It is safe for concurrent use and handles one APDU at a time, as a card does.
type Card struct {
	mu      sync.Mutex
	mem     memory
	random  io.Reader          // crypto/rand; a fixed challenge only in tests of this package
	persist func(memory) error // set by a Store: called before the answer to a command that changed the memory
	dirty   bool
	session session
}

// session is what a card forgets on power off.
type session struct {
	df        fileID
	ef        fileID
	challenge []byte
	temp      *tempKey
	staged    *stagedSet
	chain     *macChain
	purchase  *purchase
}

// NewBlank makes a card as the maker delivers it: its number in file 0015, and the transport key (16 bytes, triple DES)
// in place of the card control key. The number has 20 digits.
func NewBlank(psamNo string, transportKey []byte) (*Card, error) {
	serial, err := packNumber(psamNo)
	if err != nil {
		return nil, err
	}
	if len(transportKey) != algTDES.keySize() {
		return nil, fmt.Errorf("psam %s: a transport key has 16 bytes, this one has %d", psamNo, len(transportKey))
	}
	card := newCard(memory{PSAMNo: psamNo, Files: blankFiles(serial)})
	alg := algTDES
	if SM4Card(psamNo) {
		alg = algSM4
	}
	card.mem.putKey(keyRecord{DF: masterFile, Usage: usageControl, Alg: alg, Tries: maxTries, Value: transportKey})
	return card, nil
}

// SM4Card says that the maker delivers the card of this number with its transport key for SM4: those of the SM4 terminals of the
// development data (design.md §6). All keys of such a card are SM4 keys, because no key of one cipher may travel under one of the other.
func SM4Card(psamNo string) bool {
	const first, last = "60000000000000000201", "60000000000000000210"
	return len(psamNo) == len(first) && psamNo >= first && psamNo <= last
}

func newCard(mem memory) *Card {
	return &Card{mem: mem, random: rand.Reader, session: session{df: masterFile}}
}

// packNumber turns the 20 digits of a PSAM number into the 10 bytes of file 0015.
func packNumber(psamNo string) ([]byte, error) {
	if len(psamNo) != psamNoDigits || !allDigits([]byte(psamNo)) {
		return nil, errors.New("a PSAM number has 20 digits, for example 60000000000000000001")
	}
	serial, err := hex.DecodeString(psamNo)
	if err != nil {
		return nil, fmt.Errorf("pack PSAM number: %w", err)
	}
	return serial, nil
}

// Number is the card's PSAM number, 20 digits.
func (c *Card) Number() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mem.PSAMNo
}

// SetProfile changes how the card reads disputed commands. It takes effect with the next command.
func (c *Card) SetProfile(p Profile) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mem.Profile = p
}

// Reset is power off and on: the master file is selected and everything volatile is forgotten.
func (c *Card) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session = session{df: masterFile}
}

// handler answers one instruction. Data is only returned together with 9000.
type handler struct {
	run     func(*Card, command) ([]byte, status)
	mutates bool // may change the memory that an image holds
}

// instructions maps CLA and INS to handlers; docs/psam-sim.md holds the same table for readers.
var instructions = map[[2]byte]handler{
	{0x00, 0xA4}: {run: (*Card).selectFile},
	{0x00, 0xB0}: {run: (*Card).readBinary},
	{0x04, 0xD6}: {run: (*Card).updateBinary, mutates: true},
	{0x00, 0x84}: {run: (*Card).getChallenge},
	{0x84, 0xD4}: {run: (*Card).writeKey, mutates: true},
	{0x80, 0x1A}: {run: (*Card).initForDescrypt},
	{0x80, 0xFA}: {run: (*Card).cipherData},
	{0x80, 0x70}: {run: (*Card).initForPurchase},
	{0x80, 0x72}: {run: (*Card).creditForPurchase, mutates: true},
	{0x80, 0xF6}: {run: (*Card).readKCV},
	{0x80, 0xF8}: {run: (*Card).workKeySet, mutates: true},
	{0x00, 0xDC}: {run: (*Card).updateRecord},
	{0x80, 0xC2}: {run: (*Card).pinBlock},
	{0x80, 0xC4}: {run: (*Card).computeMAC},
	{0x80, 0xC6}: {run: (*Card).verifyMAC},
	{0x80, 0xC8}: {run: (*Card).encipherTrack},
	{0x80, 0xCE}: {run: (*Card).readStatus},
}

// Transmit hands one command APDU to the card and returns its answer: response data, if any, and the status word
// SW1 SW2. The answer has always at least 2 bytes; no input makes it fail in another way.
func (c *Card) Transmit(apdu []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	// A challenge serves the very next command and no other, whatever that command is.
	challenge := c.session.challenge
	c.session.challenge = nil
	cmd, sw := parse(apdu)
	if sw != swOK {
		return respond(nil, sw)
	}
	cmd.challenge = challenge
	if c.session.chain != nil && c.session.chain.ins != cmd.ins {
		c.session.chain = nil
	}
	h, ok := instructions[[2]byte{cmd.cla, cmd.ins}]
	if !ok {
		return respond(nil, unknown(cmd))
	}
	return respond(c.perform(h, cmd))
}

// perform runs a handler and saves the memory before the answer leaves the card. When saving fails the card is as it
// was before the command, so that card and image never differ.
func (c *Card) perform(h handler, cmd command) ([]byte, status) {
	if !h.mutates {
		return h.run(c, cmd)
	}
	before := c.mem.clone()
	c.dirty = false
	data, sw := h.run(c, cmd)
	if !c.dirty || c.persist == nil {
		return data, sw
	}
	if err := c.persist(c.mem); err != nil {
		c.mem = before
		return nil, swMemoryFailure
	}
	return data, sw
}

// unknown tells a wrong class from an unknown instruction.
func unknown(cmd command) status {
	switch cmd.cla {
	case 0x00, 0x04, 0x80, 0x84:
	default:
		return swUnknownCLA
	}
	for known := range instructions {
		if known[1] == cmd.ins {
			return swWrongClass
		}
	}
	return swUnknownINS
}

// getChallenge is 00 84 00 00 04 or 08.
func (c *Card) getChallenge(cmd command) ([]byte, status) {
	if cmd.p1 != 0 || cmd.p2 != 0 {
		return nil, swWrongP1P2
	}
	if len(cmd.data) != 0 || (cmd.le != 4 && cmd.le != 8) {
		return nil, swWrongLength
	}
	challenge := make([]byte, cmd.le)
	if _, err := io.ReadFull(c.random, challenge); err != nil {
		return nil, swInternal
	}
	c.session.challenge = challenge
	return challenge, swOK
}

func allDigits(b []byte) bool {
	for _, x := range b {
		if x < '0' || x > '9' {
			return false
		}
	}
	return true
}
