package hsm

// typed checks a key type against what the command may use. Under a key-block LMK the type says only that the key names its own
// use, which open checks.
func (q *request) typed(keyType string, allowed typeSet) errorCode {
	switch {
	case q.blocks != (keyType == blockType):
		return codeKeyType
	case !q.blocks && !allowed[keyType]:
		return codeForbidden
	}
	return codeOK
}

// permit is typed, and checks the port's list.
func (q *request) permit(keyType string, allowed typeSet) errorCode {
	if code := q.typed(keyType, allowed); code != codeOK {
		return code
	}
	if !q.blocks && !q.rule.permits(keyType) {
		return codeForbidden
	}
	return codeOK
}

// open deciphers a key under the LMK that the command means: as a key type of a variant LMK, or for a purpose from a key block. bad
// is the code for a wrong parity.
func (q *request) open(keyType string, want purpose, raw rawKey, bad errorCode) (*key, errorCode) {
	if q.blocks != (raw.letter == letterBlock) {
		return nil, codeLMKKind
	}
	if q.blocks {
		return q.openBlock(want, raw, bad)
	}
	if raw.as != "" && raw.as != keyType {
		return nil, codeForbidden
	}
	k, code := q.station.lmks.variant.open(keyType, raw)
	if code != codeOK {
		return nil, code
	}
	return k, q.parity(k, rawTypes[keyType], bad)
}

func (q *request) openBlock(want purpose, raw rawKey, bad errorCode) (*key, errorCode) {
	k, code := q.station.lmks.block.open(raw.sealed)
	if code != codeOK {
		return nil, code
	}
	if code := want.fits(k.attributes); code != codeOK {
		return nil, code
	}
	if want.ruled && !q.rule.permits(k.attributes.usage) {
		return nil, codeForbidden
	}
	return k, q.parity(k, usages[k.attributes.usage].raw, bad)
}

// parity judges a key that was opened; derived says that it may be one that came out of a cipher.
func (q *request) parity(k *key, derived bool, bad errorCode) errorCode {
	switch {
	case q.station.settings.ignoreParity:
		return codeOK
	case allZero(k.clear) || k.alg == algDES && !derived && !oddParity(k.clear):
		return bad
	}
	return codeOK
}

// misfit is the code for a key whose algorithm is not that of the work.
func (q *request) misfit() errorCode {
	if q.blocks {
		return codeAlgorithm
	}
	return codeLength
}

// tpkType is the key type of terminal PIN keys.
func (q *request) tpkType() string {
	if q.station.settings.legacyTypes {
		return typePVK
	}
	return typeTPK
}

// tmkType is the key type of terminal master keys.
func (q *request) tmkType() string {
	if q.station.settings.legacyTypes {
		return typePVK
	}
	return typeTMK
}

// putUnderLMK appends a key under the variant LMK to the answer.
func (q *request) putUnderLMK(keyType string, letter byte, k *key) errorCode {
	sealed, code := q.station.lmks.variant.seal(keyType, letter, k)
	if code == codeOK {
		q.out = appendKey(q.out, letter, sealed)
	}
	return code
}

// putUnder appends a key under a ZMK or TMK to the answer.
func (q *request) putUnder(kek *key, letter byte, k *key) errorCode {
	sealed, code := exportUnder(kek, letter, k)
	if code == codeOK {
		q.out = appendKey(q.out, letter, sealed)
	}
	return code
}
