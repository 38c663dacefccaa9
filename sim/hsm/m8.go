package hsm

import "crypto/subtle"

// runM8 verifies a MAC (facts/hsm.md §1.5). The comparison takes the same time wherever the MACs differ, and a wrong MAC
// is 01 without a hint.
func runM8(q *request) errorCode {
	m := q.macFields()
	var want []byte
	if m.final() {
		want = q.hex(m.digits / 2)
	}
	if code := q.finish(); code != codeOK {
		return code
	}
	mac, code := q.mac(m, "CVN")
	if code != codeOK {
		return code
	}
	if !m.final() {
		q.putMAC(m, mac)
		return codeOK
	}
	if subtle.ConstantTimeCompare(mac[:len(want)], want) != 1 {
		return codeAdvice
	}
	return codeOK
}
