package hsm

// runA8 exports a key under a ZMK (facts/hsm.md §1.3). Root keys and ZMKs never leave this way: under a variant LMK by their type,
// in key blocks by their exportability.
func runA8(q *request) errorCode {
	keyType := q.keyType()
	zmk, sealed, letter := q.key(), q.key(), q.scheme()
	if code := q.finish(); code != codeOK {
		return code
	}
	if code := q.permit(keyType, exportTypes); code != codeOK {
		return code
	}
	k, code := q.exportKey(keyType, zmk, sealed, letter)
	if code != codeOK {
		return code
	}
	q.out = append(q.out, k.checkValue()[:6]...)
	return codeOK
}

// exportKey appends a key under a ZMK to the answer, for A8 and GC, and returns it for its check value.
func (q *request) exportKey(keyType string, zmk, sealed rawKey, letter byte) (*key, errorCode) {
	outer, code := q.open(typeZMK, wrapForZone, zmk, codeSource)
	if code != codeOK {
		return nil, code
	}
	k, code := q.open(keyType, anyKey, sealed, codeDest)
	if code != codeOK {
		return nil, code
	}
	return k, q.putOutside(outer, letter, k, k.attributes)
}
