package hsm

// runA6 imports a key from under a ZMK (facts/hsm.md §1.3).
func runA6(q *request) errorCode {
	keyType := q.keyType()
	zmk, sealed, letter := q.key(), q.key(), q.scheme()
	if code := q.finish(); code != codeOK {
		return code
	}
	if code := q.permit(keyType, namedTypes); code != codeOK {
		return code
	}
	k, advice := q.importKey(keyType, zmk, sealed)
	if advice != codeOK && advice != codeAdvice {
		return advice
	}
	if code := q.putUnderLMK(keyType, letter, k); code != codeOK {
		return code
	}
	q.out = append(q.out, k.checkValue()[:6]...)
	return advice
}

// importKey opens a key under a ZMK, for A6 and FA. The parity of DES keys is corrected, which the code 01 tells; keys of
// the types that hold derived keys stay as they are, because their bytes must equal those in a card.
func (q *request) importKey(keyType string, zmk, sealed rawKey) (*key, errorCode) {
	outer, code := q.open(typeZMK, zmk, codeSource)
	if code != codeOK {
		return nil, code
	}
	k, code := importUnder(outer, sealed)
	if code != codeOK {
		return nil, code
	}
	if allZero(k.clear) {
		return nil, codeDest
	}
	if k.alg != algDES || rawTypes[keyType] || oddParity(k.clear) {
		return k, codeOK
	}
	corrected := append([]byte(nil), k.clear...)
	setOddParity(corrected)
	return newKey(algDES, corrected), codeAdvice
}
