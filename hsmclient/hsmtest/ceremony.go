package hsmtest

import (
	"strings"
	"testing"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
)

// Ceremony puts a clear test key under an LMK and gives the cryptogram. mac is the MAC algorithm of a MAC key where the key names it; 0
// is the one that the key's users take.
type Ceremony func(tb testing.TB, usage keys.Usage, algorithm keys.Algorithm, mac command.MACAlgorithm, clear secret.Key) string

// Wrap is the ceremony as a fixture takes it, for keys of a domain.
func (c Ceremony) Wrap(domain string) func(testing.TB, keys.Usage, keys.Algorithm, secret.Key) keys.Wrapped {
	return func(tb testing.TB, usage keys.Usage, algorithm keys.Algorithm, clear secret.Key) keys.Wrapped {
		tb.Helper()
		return keys.Wrapped{Usage: usage, Algorithm: algorithm, Domain: domain, Cryptogram: c(tb, usage, algorithm, 0, clear)}
	}
}

// WrapMAC is Wrap for MAC keys.
func (c Ceremony) WrapMAC(domain string) func(testing.TB, keys.Usage, keys.Algorithm, command.MACAlgorithm, secret.Key) keys.Wrapped {
	return func(tb testing.TB, usage keys.Usage, algorithm keys.Algorithm, mac command.MACAlgorithm, clear secret.Key) keys.Wrapped {
		tb.Helper()
		return keys.Wrapped{Usage: usage, Algorithm: algorithm, Domain: domain, Cryptogram: c(tb, usage, algorithm, mac, clear)}
	}
}

// Key types, schemes and attributes of the Racal family (facts/hsm.md §2.3, docs/hsm-sim.md §9.2 and §9.3).
var (
	keyTypes = map[keys.Usage]string{
		keys.Root: "011", keys.CardControl: "309", keys.TerminalMaster: "80D", keys.PINKey: "70D", keys.MACKey: "003", keys.TrackKey: "30B",
		keys.ZonePIN: "001", keys.ZoneMAC: "008", keys.ZoneMaster: "000", keys.Seal: "008",
	}
	schemes = map[keys.Algorithm]string{keys.DES: "Z", keys.TDES: "U", keys.SM4: "R"}

	// The algorithm stands in the place of the dots.
	attributes = map[keys.Usage]string{
		keys.Root: "E7..X00N00", keys.CardControl: "E1..N00S00", keys.TerminalMaster: "51..B00S00", keys.PINKey: "71..B00S00", keys.MACKey: "M1..C00S00",
		keys.TrackKey: "23..B00S00", keys.ZonePIN: "72..B00E00", keys.ZoneMAC: "M3..C00E00", keys.ZoneMaster: "52..B00N00", keys.Seal: "M3..C00E00",
	}
	blockAlgorithms = map[keys.Algorithm]string{keys.DES: "D1", keys.TDES: "T2", keys.SM4: "41"}
	blockMACs       = map[command.MACAlgorithm]string{command.MACAlg1: "M1", command.MACSM4CBC: "M1", command.MACAlg3: "M3", command.MACCMAC: "M6"}
)

// UnderVariantLMK is the ceremony of a simulated device's variant LMK. chinese is the set sjj1310, whose track key is of type 00B.
func UnderVariantLMK(device interface {
	EncryptUnderLMK(keyType, scheme string, clear []byte) (string, error)
}, chinese bool) Ceremony {
	return func(tb testing.TB, usage keys.Usage, algorithm keys.Algorithm, _ command.MACAlgorithm, clear secret.Key) string {
		tb.Helper()
		keyType := keyTypes[usage]
		if chinese && usage == keys.TrackKey {
			keyType = "00B"
		}
		text, err := device.EncryptUnderLMK(keyType, schemes[algorithm], clear.Reveal())
		if err != nil {
			tb.Fatal(err)
		}
		return text
	}
}

// InKeyBlocks is the ceremony of a simulated device's key-block LMK.
func InKeyBlocks(device interface {
	EncryptInKeyBlock(attributes string, clear []byte) (string, error)
}) Ceremony {
	return func(tb testing.TB, usage keys.Usage, algorithm keys.Algorithm, mac command.MACAlgorithm, clear secret.Key) string {
		tb.Helper()
		a := strings.Replace(attributes[usage], "..", blockAlgorithms[algorithm], 1)
		switch {
		case mac != 0:
			a = blockMACs[mac] + a[2:]
		case algorithm == keys.SM4 && a[:2] == "M3": // which is for triple DES keys
			a = "M1" + a[2:]
		}
		text, err := device.EncryptInKeyBlock(a, clear.Reveal())
		if err != nil {
			tb.Fatal(err)
		}
		return text
	}
}
