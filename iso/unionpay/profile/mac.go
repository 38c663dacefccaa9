package profile

import (
	"encoding/hex"

	"github.com/keyward/keyward/iso/unionpay"
	"github.com/keyward/keyward/keys"
)

// Sizes of a MAC in bytes.
const (
	hexMAC    = 4 // sent as eight characters
	binaryMAC = 8
)

// MACOf is the MAC of a terminal with keys of the algorithm.
func (p *Profile) MACOf(algorithm keys.Algorithm) MAC {
	if algorithm == keys.SM4 {
		return p.SM4MAC
	}
	return p.MAC
}

// MACData is what the HSM has to compute a MAC over, and how: for the XOR form the folded data, and a CBC-MAC over it, for all others the
// data itself. mab is not kept.
func (p *Profile) MACData(algorithm keys.Algorithm, mab []byte) ([]byte, MAC) {
	mac := p.MACOf(algorithm)
	if mac != MACECB {
		return mab, mac
	}
	if algorithm == keys.SM4 {
		folded := unionpay.FoldSM4(mab)
		return folded[:], MACCBC
	}
	folded := unionpay.Fold(mab)
	return folded[:], MACCBC
}

// Expected is what the leading bytes of the MAC must be for field 64; false where the field cannot be that of any MAC.
func (p *Profile) Expected(field64 []byte) ([]byte, bool) {
	if p.MACForm == FormBinary {
		return field64, len(field64) == binaryMAC
	}
	out := make([]byte, hexMAC)
	if len(field64) != 2*hexMAC {
		return nil, false
	}
	_, err := hex.Decode(out, field64)
	return out, err == nil
}

// Field64 is the field for a whole MAC of 8 or 16 bytes.
func (p *Profile) Field64(mac []byte) []byte {
	if p.MACForm == FormBinary {
		return mac[:binaryMAC:binaryMAC]
	}
	const upper = "0123456789ABCDEF"
	out := make([]byte, 0, 2*hexMAC)
	for _, b := range mac[:hexMAC] {
		out = append(out, upper[b>>4], upper[b&15])
	}
	return out
}

// Forgeable says that whoever can alter the line can make another message with the same MAC.
func (p *Profile) Forgeable(algorithm keys.Algorithm) bool { return p.MACOf(algorithm) == MACECB }
