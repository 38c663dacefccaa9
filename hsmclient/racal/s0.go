package racal

import "github.com/keyward/keyward/hsmclient/command"

const (
	// cmdS0 computes a MAC on Chinese boxes and wherever SM4 is: algorithm 2N · take 2H · type 3H · key · levels 2N · session 2N · padding
	// 2N · length 4H · data · IV 16H or 32H → MAC (facts/hsm.md §1.7.3; widths assumed in docs/hsm-sim.md §5.6).
	cmdS0 = "S0"

	s0NoDerive = "000002" // no levels, no session key, padding with zeros
)

// s0Algorithms are the codes of the algorithms.
var s0Algorithms = map[command.MACAlgorithm]string{
	command.MACAlg1: "01", command.MACSM4CBC: "01", command.MACAlg3: "03", command.MACCMAC: "06",
}

// s0ZeroIV is 16 zero bytes as hex.
const s0ZeroIV = "00000000000000000000000000000000"

func (d *Driver) requestS0(in command.MACInput) []byte {
	block := blockBytes(in.Key.Algorithm)
	request := make([]byte, 0, macFieldsLen+len(s0ZeroIV)+len(in.Data))
	request = append(request, cmdS0...)
	request = append(request, s0Algorithms[in.Algorithm]...)
	request = append2H(request, block)
	request = append(request, d.form.typeOf(in.Key.Usage)...)
	request = append(request, in.Key.Cryptogram...)
	request = append(request, s0NoDerive...)
	request = append4H(request, len(in.Data))
	request = append(request, in.Data...)
	return append(request, s0ZeroIV[:2*block]...)
}
