package racal

import (
	"slices"

	"github.com/keyward/keyward/keys"
)

// Scheme letters (facts/hsm.md §2.3, docs/hsm-sim.md §2).
const (
	schemeSingle  = 'Z' // 16H, single DES; written without the letter in answers
	schemeVariant = 'U' // 32H, double DES under an LMK
	schemePlain   = 'X' // 32H, double DES in plain ECB: what a PSAM can read under its TMK
	schemeSM4     = 'R' // 32H, SM4 (facts/hsm.md §1.7.3)
)

// keyTypes are the 3-digit type codes by usage (facts/hsm.md §2.3; 011 and 30B from §1.7.3).
var keyTypes = map[keys.Usage]string{
	keys.PINKey: "70D", keys.MACKey: "003", keys.TrackKey: "30B", keys.TerminalMaster: "80D", keys.CardControl: "309",
	keys.Root: "011", keys.ZonePIN: "001", keys.ZoneMAC: "008", keys.ZoneMaster: "000", keys.Seal: "008",
}

// legacyType is the one type of terminal keys on devices that do not separate them.
const legacyType = "002"

func (d *Driver) typeOf(usage keys.Usage) string {
	if d.options.LegacyTypes && (usage == keys.PINKey || usage == keys.TerminalMaster) {
		return legacyType
	}
	return keyTypes[usage]
}

// schemeDigits is the number of hex digits after a scheme letter, 0 for a letter that this driver does not speak.
func schemeDigits(scheme byte) int {
	switch scheme {
	case schemeSingle:
		return 16
	case schemeVariant, schemePlain, schemeSM4:
		return 32
	case 'T', 'Y': // triple DES: variant scheme and plain
		return 48
	}
	return 0
}

// lmkScheme and masterScheme are the schemes asked for when the device makes a key of an algorithm: under the LMK, and under a
// terminal's master key (plain ECB, not the variant form, because no card undoes the variants).
func lmkScheme(a keys.Algorithm) byte {
	switch a {
	case keys.DES:
		return schemeSingle
	case keys.TDES:
		return schemeVariant
	case keys.SM4:
		return schemeSM4
	case keys.AES:
	}
	return 0
}

func masterScheme(a keys.Algorithm) byte {
	if a == keys.TDES {
		return schemePlain
	}
	return lmkScheme(a)
}

// keyBytes is the length of a working key of the algorithm.
func keyBytes(a keys.Algorithm) int {
	if a == keys.DES {
		return 8
	}
	return 16
}

// blockBytes is the cipher block of the algorithm.
func blockBytes(a keys.Algorithm) int {
	if a == keys.SM4 {
		return 16
	}
	return 8
}

// checkKey refuses a key of another usage, or one whose cryptogram has not the form of its algorithm, before anything is
// sent: a field of the wrong length would shift all fields behind it.
func checkKey(cmd, what string, key keys.Wrapped, usages ...keys.Usage) error {
	if len(usages) > 0 && !slices.Contains(usages, key.Usage) {
		return refusal(cmd, "%s is a key for %s, which this command must not use", what, key.Usage)
	}
	text := key.Cryptogram
	if text == "" {
		return refusal(cmd, "%s is missing", what)
	}
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
	if !fits || len(digits) != schemeDigits(scheme) || !isHex(digits) {
		return refusal(cmd, "the cryptogram of %s has not the form of a %s key (scheme letter and hex digits)", what, key.Algorithm)
	}
	return nil
}

func isHex(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'A' || c > 'F') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
