package racal

import "github.com/keyward/keyward/hsmclient/command"

const (
	// cmdS0 computes a MAC on devices with SM4: algorithm 2N · take 2H · type 3H · key · levels 2N · session 2N · padding 2N ·
	// length 4H · data · IV 32H → MAC (facts/hsm.md §1.7.3; widths assumed in docs/hsm-sim.md §5.6).
	cmdS0 = "S0"

	s0CBC       = "01"
	s0CMAC      = "06"
	s0TakeWhole = "10"     // 16 bytes
	s0NoDerive  = "000002" // no levels, no session key, padding with zeros
)

// s0ZeroIV is 16 zero bytes as hex.
const s0ZeroIV = "00000000000000000000000000000000"

func (d *Driver) requestS0(in command.MACInput) []byte {
	request := make([]byte, 0, macFieldsLen+len(s0ZeroIV)+len(in.Data))
	request = append(request, cmdS0...)
	if in.Algorithm == command.MACCMAC {
		request = append(request, s0CMAC...)
	} else {
		request = append(request, s0CBC...)
	}
	request = append(request, s0TakeWhole...)
	request = append(request, d.typeOf(in.Key.Usage)...)
	request = append(request, in.Key.Cryptogram...)
	request = append(request, s0NoDerive...)
	request = append4H(request, len(in.Data))
	request = append(request, in.Data...)
	return append(request, s0ZeroIV...)
}
