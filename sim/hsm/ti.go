package hsm

import (
	"bytes"
)

// runTI translates a PIN block between 3DES and SM4 forms (facts/hsm.md §1.7.3, docs/hsm-sim.md §5.4).
func runTI(q *request) errorCode {
	var from, to pinMove
	source := q.oneOf(1, "1", "2")
	from.raw = q.key()
	dest := q.oneOf(1, "1", "2")
	to.raw = q.key()
	maxLength := q.number(2, 10, minPIN, maxPIN)
	block := q.hex(schemes[from.raw.letter].blockBytes())
	from.format, from.pan = q.formatAndAccount()
	to.format, to.pan = q.formatAndAccount()
	if code := q.finish(); code != codeOK {
		return code
	}
	if dest != "2" {
		return codeForbidden // A PIN goes towards the bank, never back to a terminal key.
	}
	from.keyType, to.keyType = typeZPK, typeZPK
	if source == "1" {
		from.keyType = q.tpkType()
	}
	for _, side := range []pinMove{from, to} {
		if pinFormatAlg[side.format] != schemes[side.raw.letter].alg {
			return codeFormat
		}
	}
	// A translation that changes the account would let a caller try PINs against another card.
	if !bytes.Equal(from.pan.twelve, to.pan.twelve) && !bytes.Equal(from.pan.twelve, []byte("000000000000")) {
		return codeAccount
	}
	return q.movePIN(from, to, block, maxLength)
}

// formatAndAccount reads a format and its PAN field: twelve digits, or for ISO-4 the whole number and a semicolon.
func (q *request) formatAndAccount() (string, account) {
	format := q.text(2)
	if _, known := pinFormatAlg[format]; !known {
		q.fail(codeFormat)
		return format, account{}
	}
	if format != pinISO4 {
		return format, account{twelve: q.digits(panDigits, codeAccount)}
	}
	n := bytes.IndexByte(q.buf[q.pos:], ';')
	if n < panDigits+1 || n > maxPANFull {
		q.fail(codeAccount)
		return format, account{}
	}
	full := q.digits(n, codeAccount)
	q.delimiter()
	if full == nil {
		return format, account{}
	}
	return format, account{twelve: full[n-1-panDigits : n-1], full: full}
}
