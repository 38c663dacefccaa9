package hsm

import "fmt"

// runS5 translates binary data from one key to another (facts/hsm.md §1.7.3, docs/hsm-sim.md §5.5).
func runS5(q *request) errorCode {
	sourceMode := q.oneOf(2, "00", "01")
	source := q.keySpec(maxFactors)
	sourcePadding := q.padding()
	destMode := q.oneOf(2, "00", "01")
	dest := q.keySpec(maxFactors)
	destPadding := q.padding()
	data := q.binary()
	sourceIV, destIV := q.iv(sourceMode, source.raw), q.iv(destMode, dest.raw)
	if code := q.finish(); code != codeOK {
		return code
	}
	if code := q.permitPair(source.keyType, dest.keyType); code != codeOK {
		return code
	}
	from, code := q.resolve(source, decryptData, codeSource)
	if code != codeOK {
		return code
	}
	to, code := q.resolve(dest, encryptNext, codeDest)
	if code != codeOK {
		return code
	}
	clear, code := decryptPadded(from, sourceMode, sourceIV, data, sourcePadding)
	if code != codeOK {
		return code
	}
	result, code := encryptPadded(to, destMode, destIV, clear, destPadding)
	if code != codeOK {
		return code
	}
	q.out = append(fmt.Appendf(q.out, "%04X", len(result)), result...)
	return codeOK
}
