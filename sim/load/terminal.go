package load

import (
	"bytes"
	"crypto/cipher"
	"crypto/des" // What the terminals of this dialect use.
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Parts of a frame behind its 2-byte length (facts/unionpay.md §1).
const (
	lengthSize = 2
	prefix     = "6000030000" + "603100310100" // TPDU, header
	prefixSize = 11
	bitmapAt   = prefixSize + 2 // behind the MTI
	fieldsAt   = bitmapAt + 8
	macSize    = 8
	blockSize  = 8
	doubleSize = 16
	kcvSize    = 4
)

// The sale that all terminals repeat: the first account of design.md §6, one fen.
const (
	pan    = "6222020000000000018"
	pin    = "123456"
	expiry = "3012"
	amount = "000000000001"
)

// Config describes a terminal.
type Config struct {
	TerminalID string // field 41, 8 characters
	MerchantID string // field 42, 15 characters
	MasterKey  []byte // clear terminal master key, 16 bytes: what its card would hold
}

// String hides the key.
func (c Config) String() string { return "terminal " + c.TerminalID }

// GoString hides the key.
func (c Config) GoString() string { return c.String() }

// Terminal makes and checks messages. One goroutine at a time may use it; it has one message under way.
type Terminal struct {
	cfg    Config
	master cipher.Block
	trace  int
	batch  string
	mac    cipher.Block
	sale   []byte // frame of a purchase, complete but for trace and MAC
	traceP int    // where the trace stands in sale
}

// NewTerminal checks the configuration.
func NewTerminal(cfg Config) (*Terminal, error) {
	if len(cfg.TerminalID) != 8 || len(cfg.MerchantID) != 15 || len(cfg.MasterKey) != doubleSize {
		return nil, errors.New("load: a terminal needs a number of 8 characters, a merchant of 15 and a master key of 16 bytes")
	}
	master, err := tripleDES(cfg.MasterKey)
	if err != nil {
		return nil, err
	}
	return &Terminal{cfg: cfg, master: master, batch: "000000"}, nil
}

// ID is the terminal number.
func (t *Terminal) ID() string { return t.cfg.TerminalID }

// SignOn makes the next sign-on, with its length in front.
func (t *Terminal) SignOn() []byte {
	t.next()
	var m builder
	m.start("0800", 11, 41, 42, 60, 62, 63)
	m.digits(fmt.Sprintf("%06d", t.trace))
	m.text(t.cfg.TerminalID + t.cfg.MerchantID)
	m.counted("00" + t.batch + "003")
	serial := "3060" + t.cfg.TerminalID
	m.bytes(fmt.Sprintf("Sequence No%02d%s", len(serial), serial))
	m.bytes("001")
	return m.frame()
}

// SignedOn takes the keys of a sign-on's answer (without its length). Wrong check values, another trace and any response code but
// 00 are errors.
func (t *Terminal) SignedOn(answer []byte) error {
	f, err := t.open(answer, "0810")
	if err != nil {
		return err
	}
	keys := f[62]
	const slot = doubleSize + kcvSize
	if len(keys) != 2*slot {
		return fmt.Errorf("load: field 62 has %d bytes, want %d", len(keys), 2*slot)
	}
	pik, err := t.openKey(keys[:doubleSize], keys[doubleSize:slot])
	if err != nil {
		return fmt.Errorf("load: PIN key: %w", err)
	}
	size := doubleSize
	if bytes.Equal(keys[slot+blockSize:slot+doubleSize], make([]byte, blockSize)) {
		size = blockSize // a single-length MAC key with zeros behind it
	}
	if t.mac, err = t.openKey(keys[slot:slot+size], keys[slot+doubleSize:]); err != nil {
		return fmt.Errorf("load: MAC key: %w", err)
	}
	if len(f[60]) >= 4 {
		t.batch = hex.EncodeToString(f[60][1:4])
	}
	return t.prepare(pik)
}

// openKey deciphers a working key and compares its check value.
func (t *Terminal) openKey(sealed, kcv []byte) (cipher.Block, error) {
	clear := make([]byte, len(sealed))
	for i := 0; i < len(sealed); i += blockSize {
		t.master.Decrypt(clear[i:], sealed[i:])
	}
	key, err := tripleDES(clear)
	if err != nil {
		return nil, err
	}
	check := make([]byte, blockSize)
	key.Encrypt(check, check)
	if !bytes.Equal(check[:kcvSize], kcv) {
		return nil, errors.New("check value is wrong: the master keys differ")
	}
	return key, nil
}

// prepare makes the template of a purchase under new keys.
func (t *Terminal) prepare(pik cipher.Block) error {
	// ISO 9564-1 format 0: length and PIN, filled with F; XOR four zero digits and the twelve right digits without the last.
	block, err := hex.DecodeString(fmt.Sprintf("%02d", len(pin)) + pin + strings.Repeat("F", 14-len(pin)))
	if err != nil {
		return err
	}
	account, err := hex.DecodeString("0000" + pan[len(pan)-13:len(pan)-1])
	if err != nil {
		return err
	}
	for i := range block {
		block[i] ^= account[i]
	}
	pik.Encrypt(block, block)
	var m builder
	m.start("0200", 3, 4, 11, 22, 25, 26, 35, 41, 42, 49, 52, 53, 60, 64)
	m.digits("000000" + amount)
	t.traceP = lengthSize + len(m.body)
	m.digits("000000" + "0210" + "00" + "06") // 22 is three digits and a filler
	m.track((pan + "D" + expiry + "220" + "1234501234501")[:37])
	m.text(t.cfg.TerminalID + t.cfg.MerchantID + "156")
	m.text(string(block))
	m.digits("2600000000000000")
	m.counted("22" + t.batch + "000")
	m.text(strings.Repeat("0", macSize))
	t.sale = m.frame()
	return nil
}

// Purchase makes the next purchase, with its length in front. The slice is used again by the next call.
func (t *Terminal) Purchase() []byte {
	t.next()
	copy(t.sale[t.traceP:], packed(fmt.Sprintf("%06d", t.trace)))
	end := len(t.sale) - macSize
	copy(t.sale[end:], t.macOf(t.sale[lengthSize+prefixSize:end]))
	return t.sale
}

// Paid checks the answer of a purchase: approved, of this trace, MACed with the terminal's key.
func (t *Terminal) Paid(answer []byte) error {
	f, err := t.open(answer, "0210")
	if err != nil {
		return err
	}
	end := len(answer) - macSize
	if len(f[64]) != macSize || !bytes.Equal(t.macOf(answer[prefixSize:end]), f[64]) {
		return errors.New("load: the MAC of the answer is wrong")
	}
	return nil
}

// open reads an answer and checks what all answers must have.
func (t *Terminal) open(answer []byte, mti string) (fields, error) {
	f, err := parse(answer, mti)
	if err != nil {
		return nil, err
	}
	if code := string(f[39]); code != "00" {
		return nil, fmt.Errorf("load: response code %q", code)
	}
	if !bytes.Equal(f[11], packed(fmt.Sprintf("%06d", t.trace))) {
		return nil, errors.New("load: the answer is that of another trace")
	}
	return f, nil
}

func (t *Terminal) next() { t.trace = t.trace%999_999 + 1 }

// macOf is field 64: the XOR of all blocks as 16 hex characters, CBC-MACed; the first 4 bytes in hex (facts/unionpay.md §4).
func (t *Terminal) macOf(data []byte) []byte {
	var sum, state [blockSize]byte
	for i, b := range data {
		sum[i%blockSize] ^= b
	}
	text := upper(sum[:])
	t.mac.Encrypt(state[:], text[:blockSize])
	for i := range state {
		state[i] ^= text[blockSize+i]
	}
	t.mac.Encrypt(state[:], state[:])
	return upper(state[:macSize/2])
}

func upper(b []byte) []byte { return bytes.ToUpper(hex.AppendEncode(nil, b)) }

// tripleDES is single DES for 8 bytes and two-key triple DES for 16.
func tripleDES(key []byte) (cipher.Block, error) {
	if len(key) == blockSize {
		return des.NewCipher(key) // A single-length MAC key.
	}
	return des.NewTripleDESCipher(append(append([]byte(nil), key...), key[:blockSize]...)) // As the dialect has it.
}
