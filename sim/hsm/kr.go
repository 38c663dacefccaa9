package hsm

// runKR makes a random key under the LMK (facts/hsm.md §1.7.3, without its store field).
func runKR(q *request) errorCode {
	keyType, letter := q.keyType(), q.scheme()
	if code := q.finish(); code != codeOK {
		return code
	}
	if code := q.permit(keyType, namedTypes); code != codeOK {
		return code
	}
	k := randomKey(letter)
	if code := q.putUnderLMK(keyType, letter, k); code != codeOK {
		return code
	}
	q.out = append(q.out, k.checkValue()...)
	return codeOK
}
