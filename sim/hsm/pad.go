package hsm

// Padding codes of the S commands (docs/hsm-sim.md §5.5, facts/hsm.md §1.7.3).
const (
	padPBOC  = "00" // Length byte in front, 80 00… only when not whole blocks.
	pad80s   = "01" // 80 00…, always added.
	padZeros = "02" // Zeros up to the block, not removed.
	padX923  = "03" // Zeros and a count.
	padPKCS  = "04" // Each byte is the count.
	padNone  = "05"
)

// maxPBOC is the longest data a PBOC length byte can name.
const maxPBOC = 255

// pad80 appends 80 and zeros up to whole blocks.
func pad80(data []byte, block int) []byte {
	out := append(append(make([]byte, 0, len(data)+block), data...), 0x80)
	return padZero(out, block)
}

// padZero appends zeros up to whole blocks; whole blocks stay as they are.
func padZero(data []byte, block int) []byte {
	out := append([]byte(nil), data...)
	for len(out)%block != 0 {
		out = append(out, 0)
	}
	return out
}

// padData pads for encipherment. It fails when the result would not be whole blocks.
func padData(data []byte, block int, method string) ([]byte, errorCode) {
	n := block - len(data)%block
	var out []byte
	switch method {
	case padPBOC:
		if len(data) > maxPBOC {
			return nil, codeData
		}
		out = append([]byte{byte(len(data))}, data...)
		if len(out)%block != 0 {
			out = pad80(out, block)
		}
	case pad80s:
		out = pad80(data, block)
	case padZeros:
		out = padZero(data, block)
	case padX923:
		out = append(append([]byte(nil), data...), make([]byte, n)...)
		out[len(out)-1] = byte(n)
	case padPKCS:
		out = append([]byte(nil), data...)
		for range n {
			out = append(out, byte(n))
		}
	default:
		out = data
	}
	if len(out) == 0 || len(out)%block != 0 {
		return nil, codeData
	}
	return out, codeOK
}

// unpadData removes a padding; zeros cannot be told from data and stay.
func unpadData(data []byte, block int, method string) ([]byte, errorCode) {
	last := len(data) - 1
	switch method {
	case padPBOC:
		n := int(data[0])
		if 1+n > len(data) || len(data)-1-n >= block {
			return nil, codeInput
		}
		if rest := data[1+n:]; len(rest) > 0 && (rest[0] != 0x80 || !allZero(rest[1:])) {
			return nil, codeInput
		}
		return data[1 : 1+n], codeOK
	case pad80s:
		i := last
		for i > 0 && data[i] == 0 {
			i--
		}
		if data[i] != 0x80 || last-i >= block {
			return nil, codeInput
		}
		return data[:i], codeOK
	case padX923, padPKCS:
		n := int(data[last])
		if n < 1 || n > block {
			return nil, codeInput
		}
		for _, b := range data[len(data)-n : last] {
			if method == padX923 && b != 0 || method == padPKCS && int(b) != n {
				return nil, codeInput
			}
		}
		return data[:len(data)-n], codeOK
	}
	return data, codeOK
}
