package hsm

// runHA makes a TAK under a TMK and under the LMK (facts/hsm.md §1.3).
func runHA(q *request) errorCode { return q.makeWorkingKey(typeTAK) }

// makeWorkingKey is HA and HC: they differ in the type of the key only.
func (q *request) makeWorkingKey(keyType string) errorCode {
	raw := q.key()
	under, local := byte('Z'), byte('Z')
	if q.delimiter() {
		under, local = q.scheme(), q.scheme()
		q.oneOf(1, "0", "1")
	}
	if code := q.finish(); code != codeOK {
		return code
	}
	if schemes[under].size != schemes[local].size || schemes[under].alg != schemes[local].alg {
		return codeLength
	}
	tmk, code := q.open(q.tmkType(), wrapForTMK, raw, codeSource)
	if code != codeOK {
		return code
	}
	k := randomKey(local)
	if code := q.putUnder(tmk, under, k); code != codeOK {
		return code
	}
	return q.putUnderLMK(keyType, local, k)
}
