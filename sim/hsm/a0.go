package hsm

// runA0 makes a key and, in mode 1, also returns it under a ZMK or TMK (facts/hsm.md §1.3, docs/hsm-sim.md §5.2, §9.4).
func runA0(q *request) errorCode {
	mode := q.oneOf(1, "0", "1")
	keyType := q.keyType()
	letter := q.lmkScheme()
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
	b, code := q.birthOf(keyType, letter)
	if code != codeOK {
		return code
	}
	if q.rule.types != nil && !underTMK {
		return codeForbidden // An entry such as A0/30B means: made for a terminal, under its TMK, and not otherwise.
	}
	allowed, uses := namedTypes, namedUsages
	switch {
	case underTMK:
		allowed, uses = workingTypes, workingUsages
		if q.station.settings.legacyTypes {
			allowed = setOf(typeTAK, typeTDK, typePVK)
		}
		if q.station.settings.chinese {
			allowed = allowed.with(typeDEK) // Their track key is 00B (facts/hsm.md §1.7.3).
		}
	case mode == "1":
		allowed, uses = exportTypes, exportUsages
	}
	if code := q.permitNew(b, allowed, uses); code != codeOK {
		return code
	}
	k := b.random()
	if code := q.putNew(b, k); code != codeOK {
		return code
	}
	if mode == "1" {
		outerType, want := typeZMK, wrapForZone
		if underTMK {
			outerType, want = q.tmkType(), wrapForTMK
		}
		kek, code := q.open(outerType, want, outer, codeSource)
		if code != codeOK {
			return code
		}
		if code := q.putOutside(kek, outerLetter, k, b.attr); code != codeOK {
			return code
		}
	}
	q.out = append(q.out, k.checkValue()[:6]...)
	return codeOK
}
