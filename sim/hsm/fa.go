package hsm

// runFA imports a ZPK from under a ZMK (facts/hsm.md §1.3).
func runFA(q *request) errorCode {
	zmk, sealed := q.key(), q.key()
	letter := map[byte]byte{'Z': 'Z', 'U': 'U', 'X': 'U', 'T': 'T', 'Y': 'T', 'R': 'R'}[sealed.letter]
	digits := 16
	if q.delimiter() {
		q.take(1)
		letter = q.scheme()
		digits = q.checkDigits()
	}
	if code := q.finish(); code != codeOK {
		return code
	}
	k, advice := q.importKey(typeZPK, zmk, sealed)
	if advice != codeOK && advice != codeAdvice {
		return advice
	}
	if code := q.putUnderLMK(typeZPK, letter, k); code != codeOK {
		return code
	}
	q.out = append(q.out, k.checkValue()[:digits]...)
	return advice
}

// checkDigits reads a check value flag: 0 for 16 hex digits, 1 for 6.
func (q *request) checkDigits() int {
	if q.oneOf(1, "0", "1") == "1" {
		return 6
	}
	return 16
}
