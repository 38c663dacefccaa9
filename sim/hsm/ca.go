package hsm

import "fmt"

// runCA translates a PIN block from a TPK to a ZPK (facts/hsm.md §1.4).
func runCA(q *request) errorCode { return q.translatePIN(q.tpkType(), fromTPK) }

// translatePIN is CA and CC.
func (q *request) translatePIN(sourceType string, want purpose) errorCode {
	sourceRaw, destRaw := q.key(), q.key()
	maxLength := q.number(2, 10, minPIN, maxPIN)
	n := 8
	if sourceRaw.alg() == algAES {
		n = 16
	}
	block := q.hex(n)
	sourceFormat, destFormat := q.text(2), q.text(2)
	pan := q.account(sourceFormat, destFormat)
	if code := q.finish(); code != codeOK {
		return code
	}
	for _, side := range []struct {
		format string
		raw    rawKey
	}{{sourceFormat, sourceRaw}, {destFormat, destRaw}} {
		// SM4 blocks go through TI.
		if !formatFits(side.format, algDES) && (side.format != pinISO4 || side.raw.alg() != algAES) {
			return codeFormat
		}
	}
	return q.movePIN(pinMove{sourceType, want, sourceRaw, sourceFormat, pan}, pinMove{typeZPK, toZPK, destRaw, destFormat, pan}, block, maxLength)
}

// pinMove is one side of a PIN translation.
type pinMove struct {
	keyType string
	want    purpose
	raw     rawKey
	format  string
	pan     account
}

// movePIN opens a PIN block and builds another; the PIN never leaves it.
func (q *request) movePIN(from, to pinMove, block []byte, maxLength int) errorCode {
	source, code := q.open(from.keyType, from.want, from.raw, codeSource)
	if code != codeOK {
		return code
	}
	dest, code := q.open(to.keyType, to.want, to.raw, codeDest)
	if code != codeOK {
		return code
	}
	if !formatFits(from.format, source.alg) || !formatFits(to.format, dest.alg) {
		return q.misfit()
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
