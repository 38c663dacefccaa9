package hsm

// runBW translates a key from the old LMK in the key-change storage to the LMK that the command means (facts/hsm.md §1.3,
// docs/hsm-sim.md §9.5). Nothing leaves the device in another form than a key under an LMK.
func runBW(q *request) errorCode {
	f := q.typedKey()
	letter, digits := byte(0), 0
	if q.delimiter() {
		q.oneOf(1, "0")
		letter = q.lmkScheme()
		digits = q.checkDigits()
	}
	if code := q.finish(); code != codeOK {
		return code
	}
	if !f.lengthFits() {
		return codeLengthFlag
	}
	old, there := q.station.lmks.old[q.lmkID]
	if !there {
		return codeOldLMK
	}
	k, code := q.openOld(old, f)
	if code != codeOK {
		return code
	}
	if letter == 0 {
		letter = f.raw.letter
		if q.blocks {
			letter = letterBlock
		}
	}
	if !q.blocks {
		if letter == letterBlock {
			return codeScheme
		}
		code = q.putUnderLMK(f.keyType, letter, k)
	} else {
		code = q.putOldInBlock(f.keyType, letter, k)
	}
	if code != codeOK {
		return code
	}
	q.out = append(q.out, k.checkValue()[:digits]...)
	return codeOK
}

// openOld opens a key under the old LMK. What is there must be of the key's kind, and a key block never turns into a key that has lost
// its header.
func (q *request) openOld(old oldLMK, f typedField) (*key, errorCode) {
	isBlock := f.raw.letter == letterBlock
	if f.raw.as != "" || isBlock != (old.block != nil) || isBlock && !q.blocks {
		return nil, codeLMKKind
	}
	if isBlock {
		if f.keyType != blockType {
			return nil, codeKeyType
		}
		k, code := old.block.open(f.raw.sealed)
		if code != codeOK {
			return nil, code
		}
		if !q.rule.permits(k.attributes.usage) {
			return nil, codeForbidden
		}
		return k, q.parity(k, usages[k.attributes.usage].raw, codeSource)
	}
	switch {
	case f.keyType == blockType:
		return nil, codeKeyType
	case !namedTypes[f.keyType] || !q.rule.permits(f.keyType):
		return nil, codeForbidden
	}
	k, code := old.variant.open(f.keyType, f.raw)
	if code != codeOK {
		return nil, code
	}
	return k, q.parity(k, rawTypes[f.keyType], codeSource)
}

// putOldInBlock appends the key in a key block: with the header that it had, or with the attributes of the request.
func (q *request) putOldInBlock(keyType string, letter byte, k *key) errorCode {
	if letter != letterBlock {
		return codeScheme
	}
	a := k.attributes
	if keyType != blockType {
		if q.attr == nil {
			return codeInput
		}
		a = *q.attr
		if !q.meansSame(a.usage, keyType) {
			return codeUsage
		}
	} else if q.attr != nil {
		return codeInput // The header of a key block does not change on the way.
	}
	return q.putInBlock(a, k)
}

// meansSame says whether a usage is that of a key type.
func (q *request) meansSame(usage, keyType string) bool {
	if keyType == typePVK && q.station.settings.legacyTypes {
		return usage == usageTPK || usage == usageTMK
	}
	return usages[usage].types[keyType]
}
