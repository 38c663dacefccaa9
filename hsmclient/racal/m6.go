package racal

import "github.com/keyward/keyward/hsmclient/command"

const (
	// cmdM6 computes a MAC: mode 1N · input format 1N · MAC size 1N · algorithm 1N · padding 1N · key type 3H · key · length
	// 4H · message → MAC (facts/hsm.md §1.5).
	cmdM6 = "M6"

	macWhole     = '0' // one message, not a chain
	macBinary    = '0' // the message as it is, so that the length counts bytes
	macSize8H    = '0'
	macSize16H   = '1'
	macZeros     = '1' // padding with zeros, method 1
	macFieldsLen = 160 // all fields but the message
)

func (d *Driver) requestM6(in command.MACInput) []byte {
	request := make([]byte, 0, macFieldsLen+len(in.Data))
	return d.appendMAC(append(request, cmdM6...), in, macSize16H)
}

// appendMAC writes the fields that M6 and M8 share.
func (d *Driver) appendMAC(request []byte, in command.MACInput, size byte) []byte {
	request = append(request, macWhole, macBinary, size, '0'+byte(in.Algorithm), macZeros)
	request = append(request, d.form.typeOf(in.Key.Usage)...)
	request = append(request, in.Key.Cryptogram...)
	request = append4H(request, len(in.Data))
	return append(request, in.Data...)
}
