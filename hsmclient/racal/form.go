package racal

import (
	"slices"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/keys"
)

// form is how keys look under an LMK: variantForm or blockForm.
type form interface {
	// typeOf is the type field of a usage, "" for one that has none.
	typeOf(usage keys.Usage) string
	// fits says that the cryptogram has the form of the key's usage and algorithm, and shape says which that is.
	fits(key keys.Wrapped) bool
	shape() string
	// fitsMAC says that the key is made for the MAC algorithm, as far as can be seen from outside.
	fitsMAC(key keys.Wrapped, algorithm command.MACAlgorithm) bool
	// scheme is asked for when the device makes a key under the LMK.
	scheme(algorithm keys.Algorithm) byte
	// attributes is the tail of a command that makes a key, with its "#", or "".
	attributes(usage keys.Usage, algorithm keys.Algorithm) string
	// lengthFlag is the flag of BU and BW.
	lengthFlag(key keys.Wrapped) byte
}

// keyUnderLMK reads a key that the device has made or translated, and refuses one of another usage or algorithm than was asked for.
func (d *Driver) keyUnderLMK(f *fields, usage keys.Usage, algorithm keys.Algorithm, what string) string {
	text := f.key(d.form.scheme(algorithm), what)
	if f.err == nil && !d.form.fits(keys.Wrapped{Usage: usage, Algorithm: algorithm, Cryptogram: text}) {
		f.fail("%s is not of the form, usage and algorithm asked for", what)
		return ""
	}
	return text
}

// otherForm is the form of keys under an LMK of the other kind.
func (d *Driver) otherForm() form {
	if _, ok := d.form.(blockForm); ok {
		return variantForm{types: d.variantTypes()}
	}
	return blockForm{}
}

// variantForm is scheme letter and hex under an LMK pair of the key's type (facts/hsm.md §2.2).
type variantForm struct {
	types map[keys.Usage]string
}

func (v variantForm) typeOf(usage keys.Usage) string { return v.types[usage] }

func (variantForm) shape() string { return "scheme letter and hex digits" }

func (variantForm) scheme(algorithm keys.Algorithm) byte { return variantScheme(algorithm) }

func (variantForm) attributes(keys.Usage, keys.Algorithm) string { return "" }

func (variantForm) fitsMAC(keys.Wrapped, command.MACAlgorithm) bool { return true }

func (variantForm) fits(key keys.Wrapped) bool {
	text := key.Cryptogram
	scheme, digits := text[0], text[1:]
	if len(text) == 16 {
		scheme, digits = schemeSingle, text
	}
	var fits bool
	switch key.Algorithm {
	case keys.DES:
		fits = scheme == schemeSingle
	case keys.TDES:
		fits = scheme != schemeSingle && scheme != schemeSM4
	case keys.SM4:
		fits = scheme == schemeSM4
	case keys.AES:
	}
	return fits && len(digits) > 0 && len(digits) == schemeDigits(scheme) && isHex(digits)
}

// lengthFlag is 0, 1 or 2 for a key of 8, 16 or 24 bytes. Of a stored key it is not seen; double length is what we make.
func (variantForm) lengthFlag(key keys.Wrapped) byte {
	switch {
	case key.Algorithm == keys.DES:
		return '0'
	case len(key.Cryptogram) <= 1+32:
		return '1'
	}
	return '2'
}

// blockForm is a key block under a key-block LMK: "S", a header of 16 characters, and the rest (facts/hsm.md §1.2, row A0;
// docs/hsm-sim.md §9.2). Version 0 is under a triple DES LMK, 1 under AES.
type blockForm struct{}

const (
	blockTypes  = "FFF" // the type field of every key
	blockHeader = 16
	minBlock    = blockHeader + 48 // no key and no MAC is shorter
)

// blockAttributes are the attributes of keys that we make, and the usages that are accepted for a key that we are given. The
// first of them is the one for keys that we make. MAC keys name their algorithm: terminals' algorithm 1, zones' and seals' 3.
var blockAttributes = map[keys.Usage]struct {
	usages []string
	mode   byte
	export byte // S any way, so that it can go to a terminal or a card; E in a key block only; N not
}{
	keys.Root:           {[]string{"E7"}, 'X', 'N'},
	keys.CardControl:    {[]string{"E1"}, 'N', 'S'},
	keys.TerminalMaster: {[]string{"51"}, 'B', 'S'},
	keys.PINKey:         {[]string{"71"}, 'B', 'S'},
	keys.MACKey:         {[]string{"M1", "M0", "M3", "M6"}, 'C', 'S'},
	keys.TrackKey:       {[]string{"23"}, 'B', 'S'},
	keys.ZonePIN:        {[]string{"72"}, 'B', 'E'},
	keys.ZoneMAC:        {[]string{"M3", "M1", "M0", "M6"}, 'C', 'E'},
	keys.ZoneMaster:     {[]string{"52"}, 'B', 'N'},
	keys.Seal:           {[]string{"M3", "M6", "M1", "M0"}, 'C', 'E'},
}

// blockAlgorithms are the algorithm in a header and in the attributes of a new key (docs/hsm-sim.md §9.2 and §9.3).
var blockAlgorithms = map[keys.Algorithm]struct {
	header byte
	tail   string
}{keys.DES: {'D', "D1"}, keys.TDES: {'T', "T2"}, keys.SM4: {'4', "41"}}

// blockMACs are the usages that serve each MAC algorithm.
var blockMACs = map[command.MACAlgorithm][]string{
	command.MACAlg1: {"M0", "M1"}, command.MACSM4CBC: {"M0", "M1"}, command.MACAlg3: {"M3"}, command.MACCMAC: {"M6"},
}

func (blockForm) typeOf(usage keys.Usage) string {
	if _, ok := blockAttributes[usage]; !ok {
		return ""
	}
	return blockTypes
}

func (blockForm) shape() string { return "S and a key block whose header names usage and algorithm" }

func (blockForm) scheme(keys.Algorithm) byte { return schemeBlock }

func (blockForm) lengthFlag(keys.Wrapped) byte { return 'F' }

func (blockForm) fits(key keys.Wrapped) bool {
	block, ok := parseBlock(key.Cryptogram)
	return ok && slices.Contains(blockAttributes[key.Usage].usages, block.usage) && block.algorithm == blockAlgorithms[key.Algorithm].header
}

func (blockForm) fitsMAC(key keys.Wrapped, algorithm command.MACAlgorithm) bool {
	block, ok := parseBlock(key.Cryptogram)
	return !ok || slices.Contains(blockMACs[algorithm], block.usage) // what is no block is a place in the device: it knows
}

func (blockForm) attributes(usage keys.Usage, algorithm keys.Algorithm) string {
	a, alg := blockAttributes[usage], blockAlgorithms[algorithm]
	code := a.usages[0]
	if algorithm != keys.TDES && code == "M3" {
		code = "M1" // algorithm 3 is a matter of triple DES keys
	}
	export := a.export
	if algorithm == keys.SM4 && export == 'E' {
		export = 'S' // no key block carries SM4 keys to another LMK (docs/hsm-sim.md §9.4)
	}
	return "#" + code + alg.tail + string(a.mode) + "00" + string(export) + "00"
}

// keyBlock is what can be seen of a key block.
type keyBlock struct {
	usage     string
	algorithm byte
}

// parseBlock reads "S" and a block.
func parseBlock(text string) (keyBlock, bool) {
	if len(text) < 1+minBlock || text[0] != schemeBlock || text[1] != '0' && text[1] != '1' || !isAlnum(text) {
		return keyBlock{}, false
	}
	if n, ok := decimal(text[2:6]); !ok || n != len(text)-1 {
		return keyBlock{}, false
	}
	return keyBlock{usage: text[6:8], algorithm: text[8]}, true
}

func decimal(text string) (n int, ok bool) {
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 0, false
		}
		n = 10*n + int(text[i]-'0')
	}
	return n, true
}

func isAlnum(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}
