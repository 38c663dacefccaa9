package hsm

// runM4 translates data from one key to another; the clear data stays inside (facts/hsm.md §1.5).
func runM4(q *request) errorCode {
	sourceMode, destMode := q.oneOf(2, "00", "01"), q.oneOf(2, "00", "01")
	in, out := first(q.oneOf(1, "0", "1", "2")), first(q.oneOf(1, "0", "1", "2"))
	sourceType, sourceRaw := q.keyType(), q.key()
	destType, destRaw := q.keyType(), q.key()
	sourceIV, destIV := q.iv(sourceMode, sourceRaw), q.iv(destMode, destRaw)
	data := q.data(in)
	if code := q.finish(); code != codeOK {
		return code
	}
	if code := q.permitPair(sourceType, destType); code != codeOK {
		return code
	}
	source, code := q.open(sourceType, decryptData, sourceRaw, codeSource)
	if code != codeOK {
		return code
	}
	dest, code := q.open(destType, encryptNext, destRaw, codeDest)
	if code != codeOK {
		return code
	}
	if len(data) == 0 || len(data)%source.blockSize() != 0 || len(data)%dest.blockSize() != 0 {
		return codeData
	}
	clear, sourceNext := cryptBlocks(source, sourceMode, sourceIV, data, false)
	result, destNext := cryptBlocks(dest, destMode, destIV, clear, true)
	q.out = append(q.out, upperHex(sourceNext)+upperHex(destNext)...)
	q.putData(out, result)
	return codeOK
}

// permitPair checks the key types of a translation; the port's list rules the first.
func (q *request) permitPair(sourceType, destType string) errorCode {
	if code := q.permit(sourceType, dataTypes); code != codeOK {
		return code
	}
	return q.typed(destType, dataTypes)
}
