package pos

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Model is what terminals of one maker or acquirer do in the points where the sources of the dialect disagree (facts/unionpay.md §4 to §6
// and §9). The zero value is a terminal as most are. The words are those of posp's profiles.
type Model struct {
	MAC       string // ecb (the UnionPay form), cbc, x9.19, cmac; empty: ecb
	MACBinary bool   // field 64 holds eight raw bytes, not eight hex characters
	PINPlace  string // of SM4 PIN blocks: 62-tag-00, 63-sm016, 62-prefix; empty: 62-tag-00
	PINPadded bool   // SM4 PIN blocks are a block of format 0 and eight zero bytes, not the wide form
	SM4Digit  string // second digit of field 53 under SM4; empty: 4
	// MACOn lists management message types that carry a MAC too, for example 0820.
	MACOn []string
}

// macKinds are the low digits of P1 of the card's MAC commands (docs/psam-sim.md).
var macKinds = map[string]byte{"": 0x00, "ecb": 0x00, "cbc": 0x01, "x9.19": 0x02, "cmac": 0x03}

func (m Model) check() error {
	if _, ok := macKinds[m.MAC]; !ok {
		return fmt.Errorf("MAC %q is not ecb, cbc, x9.19 or cmac", m.MAC)
	}
	if !slices.Contains([]string{"", "62-tag-00", "63-sm016", "62-prefix"}, m.PINPlace) {
		return fmt.Errorf("PIN place %q is not 62-tag-00, 63-sm016 or 62-prefix", m.PINPlace)
	}
	return nil
}

// macParameters are P1 and P2 of the card's MAC commands.
func (m Model) macParameters() (kind, form byte) {
	if m.MACBinary {
		form = 0x01
	}
	return macKinds[m.MAC], form
}

// digit is the second digit of field 53 (facts/unionpay.md §5).
func (m Model) digit(scheme string) string {
	switch {
	case isSM4(scheme) && m.SM4Digit != "":
		return m.SM4Digit
	case isSM4(scheme):
		return "4"
	case scheme == "001":
		return "0"
	default:
		return "6"
	}
}

func knownScheme(scheme string) bool {
	return slices.Contains([]string{"001", "003", "004", "005", "006"}, scheme)
}

func isSM4(scheme string) bool { return scheme == "005" || scheme == "006" }

// putPIN has the card make the PIN block and puts it where the model has it (facts/unionpay.md §6).
func (t *Terminal) putPIN(p packet, pin, pan string) error {
	form, sm4 := pinISO0, isSM4(t.state.Scheme)
	if sm4 && !t.cfg.Model.PINPadded {
		form = pinWide
	}
	block, err := t.reader.pinBlock(form, pin, pan)
	if err != nil {
		return err
	}
	p.fields[26], p.fields[52] = "06", block
	if !sm4 {
		return nil
	}
	p.fields[52] = strings.Repeat("\x00", 8)
	switch t.cfg.Model.PINPlace {
	case "63-sm016":
		p.fields[63] = "SM016" + block
	case "62-prefix":
		p.fields[62] = "\x00\x00\x00\x00\x00" + block
	default:
		p.fields[62] = "\x00\x10" + block
	}
	return nil
}

// Numbers of the development data with a model of their own (design.md §6): 1000 and four digits.
const (
	devSM4First, devSM4Last       = 201, 210
	devRetailFirst, devRetailLast = 301, 310
	devDESFirst, devDESLast       = 401, 410
)

// developmentModel gives a terminal 1000NNNN of the development data its scheme and model; all others stay as they are.
func developmentModel(cfg *Config) {
	digits, ok := strings.CutPrefix(cfg.TerminalID, terminalPrefix)
	n, err := strconv.Atoi(digits)
	if !ok || err != nil || len(digits) != 4 {
		return
	}
	switch {
	case n >= devSM4First && n <= devSM4Last:
		cfg.Scheme = "006"
	case n >= devRetailFirst && n <= devRetailLast:
		cfg.Model.MAC, cfg.Model.MACBinary = "x9.19", true
	case n >= devDESFirst && n <= devDESLast:
		cfg.Scheme = "001"
	}
}
