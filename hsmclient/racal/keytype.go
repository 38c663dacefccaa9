package racal

import (
	"maps"
	"slices"

	"github.com/keyward/keyward/keys"
)

// Scheme letters (facts/hsm.md §2.3, docs/hsm-sim.md §2).
const (
	schemeSingle  = 'Z' // 16H, single DES; written without the letter in answers
	schemeVariant = 'U' // 32H, double DES under an LMK
	schemePlain   = 'X' // 32H, double DES in plain ECB: what a PSAM can read under its TMK
	schemeSM4     = 'R' // 32H, SM4 (facts/hsm.md §1.7.3)
	schemeTR31    = 'R' // a TR-31 block, where an LMK is of the key-block kind and the key is DES
	schemeBlock   = 'S' // a key block under a key-block LMK
	schemeStored  = 'K' // and four digits: a place in the device's user storage
)

// keyTypes are the 3-digit type codes by usage (facts/hsm.md §2.3; 011 from §1.7.3).
var keyTypes = map[keys.Usage]string{
	keys.PINKey: "70D", keys.MACKey: "003", keys.TrackKey: "30B", keys.TerminalMaster: "80D", keys.CardControl: "309",
	keys.Root: "011", keys.ZonePIN: "001", keys.ZoneMAC: "008", keys.ZoneMaster: "000", keys.Seal: "008",
}

// chineseTypes are those of the SJJ1310: its key for track data is 00B (facts/hsm.md §1.7.3).
var chineseTypes = func() map[keys.Usage]string {
	types := maps.Clone(keyTypes)
	types[keys.TrackKey] = "00B"
	return types
}()

// legacyType is the one type of terminal keys on devices that do not separate them.
const legacyType = "002"

// legacyTypes is types with terminal master and terminal PIN keys in one.
func legacyTypes(types map[keys.Usage]string) map[keys.Usage]string {
	types = maps.Clone(types)
	types[keys.PINKey], types[keys.TerminalMaster] = legacyType, legacyType
	return types
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

// variantScheme and masterScheme are the schemes asked for when the device makes a key of an algorithm: under a variant LMK, and
// under a terminal's master key (plain ECB, not the variant form, because no card undoes the variants).
func variantScheme(a keys.Algorithm) byte {
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
	return variantScheme(a)
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

// checkKey refuses a key of another usage, or one whose cryptogram has not the form of its algorithm and of the device's LMK, before
// anything is sent: a field of the wrong length would shift all fields behind it.
func (d *Driver) checkKey(cmd, what string, key keys.Wrapped, usages ...keys.Usage) error {
	if len(usages) > 0 && !slices.Contains(usages, key.Usage) {
		return refusal(cmd, "%s is a key for %s, which this command must not use", what, key.Usage)
	}
	if key.Cryptogram == "" {
		return refusal(cmd, "%s is missing", what)
	}
	if d.form.typeOf(key.Usage) == "" {
		return refusal(cmd, "keys for %s have no type code", key.Usage)
	}
	if variantScheme(key.Algorithm) == 0 {
		return refusal(cmd, "%s is a %s key, which the device does not know", what, key.Algorithm)
	}
	if isStored(key.Cryptogram) || d.form.fits(key) {
		return nil
	}
	if d.otherForm().fits(key) { // the device's setting may be the wrong one of the two: another member may know better
		return lacks(cmd, "the cryptogram of %s has not the form of the keys of this device (%s): its setting lmk does not fit the key", what, d.form.shape())
	}
	return refusal(cmd, "the cryptogram of %s has not the form of a %s key of this device (%s)", what, key.Algorithm, d.form.shape())
}

// isStored says that the text is a place in the device's user storage.
func isStored(cryptogram string) bool {
	if len(cryptogram) != 1+indexDigits || cryptogram[0] != schemeStored {
		return false
	}
	_, ok := decimal(cryptogram[1:])
	return ok
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
