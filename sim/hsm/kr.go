package hsm

// runKR makes a random key under the LMK and, with a store suffix, keeps it in the device (facts/hsm.md §1.7.3).
func runKR(q *request) errorCode {
	keyType, letter := q.keyType(), q.lmkScheme()
	if code := q.finish(); code != codeOK {
		return code
	}
	b, code := q.birthOf(keyType, letter)
	if code != codeOK {
		return code
	}
	if code := q.permitNew(b, namedTypes, namedUsages); code != codeOK {
		return code
	}
	k := b.random()
	if code := q.putNew(b, k); code != codeOK {
		return code
	}
	q.out = append(q.out, k.checkValue()...)
	return codeOK
}
