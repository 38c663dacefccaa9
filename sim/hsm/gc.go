package hsm

// runGC exports a ZPK under a ZMK (facts/hsm.md §1.3).
func runGC(q *request) errorCode {
	zmk, sealed := q.key(), q.key()
	letter := map[byte]byte{'Z': 'Z', 'U': 'X', 'X': 'X', 'T': 'Y', 'Y': 'Y', 'R': 'R'}[sealed.letter]
	digits := 16
	if q.delimiter() {
		letter = q.scheme()
		q.take(1)
		digits = q.checkDigits()
	}
	if code := q.finish(); code != codeOK {
		return code
	}
	k, code := q.exportKey(typeZPK, zmk, sealed, letter)
	if code != codeOK {
		return code
	}
	q.out = append(q.out, k.checkValue()[:digits]...)
	return codeOK
}
