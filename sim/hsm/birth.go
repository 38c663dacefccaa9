package hsm

import "crypto/rand"

// birth is how a new key is to be kept: as a key type and a scheme letter under a variant LMK, as attributes in a key block.
type birth struct {
	keyType string
	letter  byte
	attr    attributes
}

// birthOf puts together what a command read. It refuses what does not belong to the LMK that the command means.
func (q *request) birthOf(keyType string, letter byte) (birth, errorCode) {
	b := birth{keyType: keyType, letter: letter}
	if q.blocks != (letter == 'S') {
		return b, codeScheme
	}
	if !q.blocks {
		return b, codeOK
	}
	if q.attr == nil {
		return b, codeInput
	}
	b.attr = *q.attr
	return b, codeOK
}

// random makes the key.
func (b birth) random() *key {
	if b.letter != 'S' {
		return randomKey(b.letter)
	}
	return randomOf(algorithms[b.attr.algorithm], b.attr.size)
}

// randomOf makes a random key; DES keys have odd parity.
func randomOf(alg algorithm, size int) *key {
	clear := make([]byte, size)
	rand.Read(clear) // Never fails: crypto/rand ends the process instead (Go 1.24 and later).
	if alg == algDES {
		setOddParity(clear)
	}
	return newKey(alg, clear)
}

// permitNew checks what a command may make against its own lists and against the port's.
func (q *request) permitNew(b birth, types, usages typeSet) errorCode {
	if !q.blocks {
		return q.permit(b.keyType, types)
	}
	switch {
	case b.keyType != blockType:
		return codeKeyType
	case !usages[b.attr.usage]:
		return codeUsage
	case !q.rule.permits(b.attr.usage):
		return codeForbidden
	}
	return codeOK
}

// putNew appends a new key under the LMK to the answer and keeps it in the user storage when the request asks for that.
func (q *request) putNew(b birth, k *key) errorCode {
	start := len(q.out)
	put := func() errorCode { return q.putUnderLMK(b.keyType, b.letter, k) }
	if q.blocks {
		put = func() errorCode { return q.putInBlock(b.attr, k) }
	}
	if code := put(); code != codeOK {
		return code
	}
	return q.keep(b.keyType, q.out[start:], k)
}

// putInBlock appends a key under the key-block LMK to the answer.
func (q *request) putInBlock(a attributes, k *key) errorCode {
	field, code := q.station.lmks.block.seal(a, k)
	if code == codeOK {
		q.out = append(q.out, field...)
	}
	return code
}

// mayLeave checks the exportability of a key from a key block; under a variant LMK the key type has decided.
func (q *request) mayLeave(a attributes, inBlock bool) errorCode {
	if !q.blocks || a.export == 'S' || a.export == 'E' && inBlock {
		return codeOK
	}
	return codeExport
}

// putOutside appends a key under a ZMK or TMK to the answer. a are its attributes under a key-block LMK.
func (q *request) putOutside(outer *key, letter byte, k *key, a attributes) errorCode {
	inBlock := q.blocks && letter == 'R' && outer.alg != algSM4
	if code := q.mayLeave(a, inBlock); code != codeOK {
		return code
	}
	if !inBlock {
		return q.putUnder(outer, letter, k)
	}
	b, version, code := outer.tr31()
	if code != codeOK {
		return code
	}
	if wider := usages[a.usage].wider; wider != "" {
		a.usage = wider
	}
	q.out = append(append(q.out, 'R'), sealBlock(b, version, a, "00", k)...)
	return codeOK
}

// tr31 makes the keys with which a ZMK or TMK protects TR-31 blocks.
func (k *key) tr31() (binding, byte, errorCode) {
	switch {
	case k.alg == algAES:
		return newBinding(tr31AES, k.clear), tr31AES, codeOK
	case k.alg == algDES && len(k.clear) >= 16:
		return newBinding(tr31TDES, k.clear), tr31TDES, codeOK
	}
	return binding{}, 0, codeWrapping
}
