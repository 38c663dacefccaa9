package hsm

// runA6 imports a key from under a ZMK (facts/hsm.md §1.3, docs/hsm-sim.md §9.4).
func runA6(q *request) errorCode {
	keyType := q.keyType()
	zmk := q.key()
	sealed, letter := q.keyUnder(zmk), q.lmkScheme()
	if code := q.finish(); code != codeOK {
		return code
	}
	if q.blocks {
		return q.importBlock(keyType, zmk, sealed, letter)
	}
	if letter == letterBlock {
		return codeScheme
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
	outer, code := q.open(typeZMK, openFromZone, zmk, codeSource)
	if code != codeOK {
		return nil, code
	}
	k, code := importUnder(outer, sealed)
	if code != codeOK {
		return nil, code
	}
	return corrected(k, rawTypes[keyType])
}

// corrected gives a key odd parity and says so. Keys that may have come out of a cipher stay as they are.
func corrected(k *key, derived bool) (*key, errorCode) {
	if allZero(k.clear) {
		return nil, codeDest
	}
	if k.alg != algDES || derived || oddParity(k.clear) {
		return k, codeOK
	}
	clear := append([]byte(nil), k.clear...)
	setOddParity(clear)
	return newKey(algDES, clear), codeAdvice
}

// importBlock is A6 under a key-block LMK: from a TR-31 block, whose header goes on, or from a plain key with new attributes.
func (q *request) importBlock(keyType string, zmk, sealed rawKey, letter byte) errorCode {
	if letter != letterBlock {
		return codeScheme
	}
	if keyType != blockType {
		return codeKeyType
	}
	if q.attr == nil && sealed.letter != letterTR31 {
		return codeInput
	}
	outer, code := q.open(typeZMK, openFromZone, zmk, codeSource)
	if code != codeOK {
		return code
	}
	k, a, code := q.fromOutside(outer, sealed)
	if code != codeOK {
		return code
	}
	if !q.rule.permits(a.usage) {
		return codeForbidden
	}
	k, advice := corrected(k, usages[a.usage].raw)
	if k == nil {
		return advice
	}
	if code := q.putInBlock(a, k); code != codeOK {
		return code
	}
	q.out = append(q.out, k.checkValue()[:6]...)
	return advice
}

// fromOutside opens a key under a ZMK and finds the attributes that it gets.
func (q *request) fromOutside(outer *key, sealed rawKey) (*key, attributes, errorCode) {
	if sealed.letter != letterTR31 {
		k, code := importUnder(outer, sealed)
		return k, *q.attr, code
	}
	b, _, code := outer.tr31()
	if code != codeOK {
		return nil, attributes{}, code
	}
	k, code := openBlock(b, sealed.sealed)
	if code != codeOK {
		return nil, attributes{}, code
	}
	a := k.attributes
	if code := a.check(); code != codeOK {
		return nil, a, code
	}
	if q.attr == nil {
		return k, a, codeOK
	}
	// The request may narrow the use. Everything else stays as the sender wrote it, so that nothing is widened on the way.
	if q.attr.usage != a.usage && usages[q.attr.usage].wider != a.usage {
		return nil, a, codeUsage
	}
	a.usage = q.attr.usage
	switch {
	case q.attr.algorithm != a.algorithm:
		return nil, a, codeAlgorithm
	case q.attr.size != a.size:
		return nil, a, codeKeyLength
	}
	return k, a, a.check()
}
