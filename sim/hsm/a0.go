package hsm

// runA0 makes a key and, in mode 1, also returns it under a ZMK or TMK (facts/hsm.md §1.3, docs/hsm-sim.md §5.2).
func runA0(q *request) errorCode {
	mode := q.oneOf(1, "0", "1")
	keyType := q.keyType()
	letter := q.scheme()
	var outer rawKey
	var outerLetter byte
	underTMK := false
	if mode == "1" {
		if q.delimiter() {
			underTMK = q.oneOf(1, "0", "1") == "1"
		}
		outer = q.key()
		outerLetter = q.scheme()
	}
	if code := q.finish(); code != codeOK {
		return code
	}
	if q.rule.types != nil && !underTMK {
		return codeForbidden // An entry such as A0/30B means: made for a terminal, under its TMK, and not otherwise.
	}
	allowed := namedTypes
	switch {
	case underTMK:
		allowed = workingTypes
		if q.settings.legacyTypes {
			allowed = setOf(typeTAK, typeTDK, typePVK)
		}
	case mode == "1":
		allowed = exportTypes
	}
	if code := q.permit(keyType, allowed); code != codeOK {
		return code
	}
	k := randomKey(letter)
	if code := q.putUnderLMK(keyType, letter, k); code != codeOK {
		return code
	}
	if mode == "1" {
		outerType := typeZMK
		if underTMK {
			outerType = q.tmkType()
		}
		kek, code := q.open(outerType, outer, codeSource)
		if code != codeOK {
			return code
		}
		if code := q.putUnder(kek, outerLetter, k); code != codeOK {
			return code
		}
	}
	q.out = append(q.out, k.checkValue()[:6]...)
	return codeOK
}
