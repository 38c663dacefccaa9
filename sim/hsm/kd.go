package hsm

// runKD derives a key from a root key over one or more levels (docs/hsm-sim.md §5.3, §9.4). It is the only command that uses a
// root key, and what it makes can neither encipher data nor be exported except into a card.
func runKD(q *request) errorCode {
	sourceType, source := q.keyType(), q.key()
	destType, letter := q.keyType(), q.lmkScheme()
	mode := q.oneOf(1, "0", "1")
	levels := q.number(2, 16, 1, maxFactors)
	size := singleFactor
	if mode == "1" {
		size = doubleFactor
	}
	factors := q.factors(levels, size)
	if code := q.finish(); code != codeOK {
		return code
	}
	b, code := q.birthOf(destType, letter)
	if code != codeOK {
		return code
	}
	if code := q.typed(sourceType, setOf(typeRoot)); code != codeOK {
		return code
	}
	if code := q.permitNew(b, derivedTypes, derivedUsages); code != codeOK {
		return code
	}
	k, code := q.open(sourceType, deriveKeys, source, codeSource)
	if code != codeOK {
		return code
	}
	for _, factor := range factors {
		if k, code = derive(k, factor); code != codeOK {
			return code
		}
	}
	if code := q.putNew(b, k); code != codeOK {
		return code
	}
	q.out = append(q.out, k.checkValue()...)
	return codeOK
}

// derive makes the child of a 16-byte key. An 8-byte factor is taken with its complement (PBOC, facts/psam.md §1), a
// 16-byte factor as it is; either way the child is the ECB encipherment of 16 bytes. The parity is left alone.
func derive(parent *key, factor []byte) (*key, errorCode) {
	if len(parent.clear) != 16 {
		return nil, codeLength
	}
	input := factor
	if len(factor) == singleFactor {
		input = append(append(make([]byte, 0, doubleFactor), factor...), inverted(factor)...)
	}
	return newKey(parent.alg, ecbEncrypt(parent.block, input)), codeOK
}
