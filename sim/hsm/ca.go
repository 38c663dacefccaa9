package hsm

import "fmt"

// runCA translates a PIN block from a TPK to a ZPK (facts/hsm.md §1.4).
func runCA(q *request) errorCode { return q.translatePIN(q.tpkType()) }

// translatePIN is CA and CC.
func (q *request) translatePIN(sourceType string) errorCode {
	sourceRaw, destRaw := q.key(), q.key()
	maxLength := q.number(2, 10, minPIN, maxPIN)
	block := q.hex(8)
	sourceFormat, destFormat := q.text(2), q.text(2)
	pan := account{twelve: q.digits(panDigits, codeAccount)}
	if code := q.finish(); code != codeOK {
		return code
	}
	if pinFormatAlg[sourceFormat] != algDES || pinFormatAlg[destFormat] != algDES {
		return codeFormat
	}
	return q.movePIN(pinMove{sourceType, sourceRaw, sourceFormat, pan}, pinMove{typeZPK, destRaw, destFormat, pan}, block, maxLength)
}

// pinMove is one side of a PIN translation.
type pinMove struct {
	keyType string
	raw     rawKey
	format  string
	pan     account
}

// movePIN opens a PIN block and builds another; the PIN never leaves it.
func (q *request) movePIN(from, to pinMove, block []byte, maxLength int) errorCode {
	source, code := q.open(from.keyType, from.raw, codeSource)
	if code != codeOK {
		return code
	}
	dest, code := q.open(to.keyType, to.raw, codeDest)
	if code != codeOK {
		return code
	}
	if source.alg != pinFormatAlg[from.format] || dest.alg != pinFormatAlg[to.format] {
		return codeLength
	}
	pin, code := openPIN(source, from.format, block, from.pan)
	if code != codeOK {
		return code
	}
	if len(pin) > maxLength {
		return codePINLength
	}
	result, code := sealPIN(dest, to.format, pin, to.pan)
	if code != codeOK {
		return code
	}
	q.out = fmt.Appendf(q.out, "%02d%s%s", len(pin), upperHex(result), to.format)
	return codeOK
}
