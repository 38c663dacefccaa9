package hsm

import "encoding/hex"

// macRequest is what M6 and M8 have in common (docs/hsm-sim.md §5.6).
type macRequest struct {
	mode      byte // 0 whole, 1 first, 2 middle, 3 last.
	digits    int  // Hex digits of the MAC.
	algorithm byte
	padding   byte // 0 none, 1 zeros, 2 80….
	keyType   string
	raw       rawKey
	iv        []byte
	message   []byte
}

// final says whether the request ends a message, so that its answer is a MAC and not a chaining value.
func (m *macRequest) final() bool { return m.mode == '0' || m.mode == '3' }

// runM6 makes a MAC (facts/hsm.md §1.5).
func runM6(q *request) errorCode {
	m := q.macFields()
	if code := q.finish(); code != codeOK {
		return code
	}
	mac, code := q.mac(m, "CGN")
	if code != codeOK {
		return code
	}
	q.putMAC(m, mac)
	return codeOK
}

func (q *request) putMAC(m macRequest, mac []byte) {
	text := upperHex(mac)
	if m.final() {
		text = text[:m.digits]
	}
	q.out = append(q.out, text...)
}

// macFields reads the fields up to the message.
func (q *request) macFields() macRequest {
	var m macRequest
	m.mode = first(q.oneOf(1, "0", "1", "2", "3"))
	format := first(q.oneOf(1, "0", "1", "2"))
	m.digits = 8 << q.number(1, 10, 0, 2)
	m.algorithm = first(q.oneOf(1, "1", "3", "6"))
	m.padding = first(q.oneOf(1, "0", "1", "2"))
	m.keyType = q.keyType()
	m.raw = q.key()
	block := m.raw.blockBytes()
	if m.mode == '2' || m.mode == '3' {
		m.iv = q.hex(block)
	} else {
		m.iv = make([]byte, block)
	}
	m.message = q.data(format)
	if m.digits > 2*block {
		q.fail(codeInput)
	}
	return m
}

// mac does the work of M6 and M8. modes are the modes of use that a key block may have for it.
func (q *request) mac(m macRequest, modes string) ([]byte, errorCode) {
	if code := q.permit(m.keyType, macTypes); code != codeOK {
		return nil, code
	}
	k, code := q.open(m.keyType, macPurpose(m.algorithm, modes), m.raw, codeSource)
	if code != codeOK {
		return nil, code
	}
	if !m.final() {
		chain, code := chainCipher(k, m.algorithm)
		if code != codeOK {
			return nil, code
		}
		if len(m.message) == 0 || len(m.message)%k.blockSize() != 0 {
			return nil, codeData
		}
		return cbcState(chain, m.iv, m.message), codeOK
	}
	if m.algorithm == macCMAC {
		if m.mode == '3' && len(m.message) == 0 {
			return nil, codeData // The blocks before were chained as if more followed, so the last one is missing.
		}
		return computeMAC(k, m.algorithm, m.iv, m.message)
	}
	padded := m.message
	switch m.padding {
	case '1':
		padded = padZero(m.message, k.blockSize())
		if len(padded) == 0 && m.mode == '0' {
			padded = make([]byte, k.blockSize()) // ISO 9797-1 padding method 1: an empty message is one zero block.
		}
	case '2':
		padded = pad80(m.message, k.blockSize())
	}
	return computeMAC(k, m.algorithm, m.iv, padded)
}

// data reads a 4-hex-digit length, which counts characters as sent, and the data in one of the formats 0 binary, 1 hex,
// 2 text.
func (q *request) data(format byte) []byte {
	n := q.number(4, 16, 0, 0xFFFF)
	if q.code == "" && len(q.buf)-q.pos < n {
		q.fail(codeData)
	}
	raw := q.take(n)
	if format != '1' {
		return raw
	}
	if len(raw)%2 != 0 {
		q.fail(codeData)
		return nil
	}
	out := make([]byte, len(raw)/2)
	if _, err := hex.Decode(out, raw); err != nil {
		q.fail(codeInput)
	}
	return out
}

// first is the first byte of a text, or 0 when it is empty because reading failed before.
func first(s string) byte {
	if s == "" {
		return 0
	}
	return s[0]
}
