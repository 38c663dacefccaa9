// Package ceremony is the simulated key ceremony of the development system: it puts the public test keys of design.md §6 under the
// public test LMK, as the custodians of a real system do with components at the HSM, and hands out the cryptograms with their
// check values.
//
// The clear values below are published and protect nothing. A production profile refuses keys with these check values
// (keys.RefuseTestKey).
package ceremony

import (
	"encoding/hex"
	"fmt"

	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/sim/hsm"
)

// Domain names the public test LMK.
const Domain = "dev"

// LMKCheck is the check value of the public test LMK (docs/hsm-sim.md §2).
const LMKCheck keys.KCV = "2686047444912422"

// BlockDomain names the key-block LMK that every simulated HSM holds beside the variant one, and BlockLMKCheck is its check value
// (docs/hsm-sim.md §9.1).
const (
	BlockDomain            = "dev-kb"
	BlockLMKCheck keys.KCV = "DB3FB663EE8D2B66"
)

// Clear values of the zone keys, which the bank simulator holds in the clear as a bank's HSM would.
const (
	ClearZPK       = "10204080010204080102040810204080"
	ClearZAK       = "08080808101010102020202040404040"
	ClearTransport = "40434546494A4C4F51525457585B5D5E" // what blank cards of the simulated maker come with
)

// Key is a key with the name it has in the key service's store, or in a configuration.
type Key struct {
	Name string
	keys.Wrapped
}

// Keys are the cryptograms that a system starts with.
type Keys struct {
	Store          []Key // for the key service's store: issuing roots and the maker's transport key
	ZPK, ZAK, Seal keys.Wrapped
	// BlockSeal is the value of Seal as a key block: the canary of BlockDomain. Blocks are filled with random bytes, so each ceremony makes
	// another one.
	BlockSeal keys.Wrapped
}

// blockAttributes are those of Seal in a key block: a MAC key for algorithm 3 of double length (docs/hsm-sim.md §9.2, §9.3).
const blockAttributes = "M3T2C00E00"

// source is a key before the ceremony. keyType and scheme are what the simulated HSM files it under (docs/hsm-sim.md §2).
type source struct {
	name            string
	usage           keys.Usage
	algorithm       keys.Algorithm
	keyType, scheme string
	value           string
}

const clearSeal = "04040404080808081010101020202020"

const testRoot = "0123456789ABCDEFFEDCBA9876543210"

var store = []source{
	{"PSAM-ROOT", keys.Root, keys.TDES, "011", "U", testRoot},
	{"PSAM-ROOT", keys.Root, keys.SM4, "011", "R", testRoot},
	{"PSAM-CCK", keys.Root, keys.TDES, "011", "U", "01010101020202020404040410101010"},
	{"PSAM-ACK", keys.Root, keys.TDES, "011", "U", "02020202040404040808080820202020"},
	{"PSAM-TRANSPORT", keys.CardControl, keys.TDES, "309", "U", ClearTransport},
	// The same values for cards whose keys are all SM4.
	{"PSAM-CCK", keys.Root, keys.SM4, "011", "R", "01010101020202020404040410101010"},
	{"PSAM-ACK", keys.Root, keys.SM4, "011", "R", "02020202040404040808080820202020"},
	{"PSAM-TRANSPORT", keys.CardControl, keys.SM4, "309", "R", ClearTransport},
}

// Hold performs the ceremony. It needs no running device: the simulator's LMK is a constant.
func Hold() (Keys, error) {
	// The port is never opened; a device must have one.
	device, err := hsm.New(hsm.Config{Ports: []hsm.Port{{Name: "ceremony", Addr: "127.0.0.1:0", Allow: hsm.AllCommands()}}})
	if err != nil {
		return Keys{}, fmt.Errorf("key ceremony: %w", err)
	}
	var out Keys
	for _, s := range store {
		wrapped, err := wrap(device, s)
		if err != nil {
			return Keys{}, err
		}
		out.Store = append(out.Store, Key{Name: s.name, Wrapped: wrapped})
	}
	for into, s := range map[*keys.Wrapped]source{
		&out.ZPK:  {"ZPK", keys.ZonePIN, keys.TDES, "001", "U", ClearZPK},
		&out.ZAK:  {"ZAK", keys.ZoneMAC, keys.TDES, "008", "U", ClearZAK},
		&out.Seal: {"seal", keys.Seal, keys.TDES, "008", "U", clearSeal},
	} {
		if *into, err = wrap(device, s); err != nil {
			return Keys{}, err
		}
	}
	clear, err := hex.DecodeString(clearSeal)
	if err != nil {
		return Keys{}, fmt.Errorf("key ceremony: seal: %w", err)
	}
	out.BlockSeal = out.Seal
	out.BlockSeal.Domain = BlockDomain
	if out.BlockSeal.Cryptogram, err = device.EncryptInKeyBlock(blockAttributes, clear); err != nil {
		return Keys{}, fmt.Errorf("key ceremony: seal in a key block: %w", err)
	}
	return out, nil
}

func wrap(device *hsm.Device, s source) (keys.Wrapped, error) {
	clear, err := hex.DecodeString(s.value)
	if err != nil {
		return keys.Wrapped{}, fmt.Errorf("key ceremony: %s: %w", s.name, err)
	}
	cryptogram, err := device.EncryptUnderLMK(s.keyType, s.scheme, clear)
	if err != nil {
		return keys.Wrapped{}, fmt.Errorf("key ceremony: %s: %w", s.name, err)
	}
	family := "DES"
	if s.algorithm == keys.SM4 {
		family = "SM4"
	}
	check, err := hsm.CheckValue(family, clear)
	if err != nil {
		return keys.Wrapped{}, fmt.Errorf("key ceremony: %s: %w", s.name, err)
	}
	kcv, err := keys.ParseKCV(check)
	if err != nil {
		return keys.Wrapped{}, fmt.Errorf("key ceremony: %s: %w", s.name, err)
	}
	return keys.Wrapped{Usage: s.usage, Algorithm: s.algorithm, Version: 1, Domain: Domain, Cryptogram: cryptogram, KCV: kcv}, nil
}
