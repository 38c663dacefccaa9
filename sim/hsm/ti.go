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
	block := q.hex(from.raw.blockBytes())
	from.format, from.pan = q.formatAndAccount()
	to.format, to.pan = q.formatAndAccount()
	if code := q.finish(); code != codeOK {
		return code
	}
	if dest != "2" {
		return codeForbidden // A PIN goes towards the bank, never back to a terminal key.
	}
	from.keyType, from.want, to.keyType, to.want = typeZPK, fromZPK, typeZPK, toZPK
	if source == "1" {
		from.keyType, from.want = q.tpkType(), fromTPK
	}
	for _, side := range []pinMove{from, to} {
		if !formatFits(side.format, side.raw.alg()) {
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
	}
	return format, q.account(format, format)
}

// account reads the PAN field that the formats need: the whole number and a semicolon for ISO-4, 18 digits for PLUS, else twelve.
func (q *request) account(source, dest string) account {
	switch {
	case source == pinISO4 || dest == pinISO4:
		return q.wholeAccount()
	case source == pinPlus || dest == pinPlus:
		return plusAccount(q.digits(plusDigits, codeAccount))
	}
	return account{twelve: q.digits(panDigits, codeAccount)}
}

func (q *request) wholeAccount() account {
	n := bytes.IndexByte(q.buf[q.pos:], ';')
	if n < panDigits+1 || n > maxPANFull {
		q.fail(codeAccount)
		return account{}
	}
	full := q.digits(n, codeAccount)
	q.delimiter()
	if full == nil {
		return account{}
	}
	return account{twelve: full[n-1-panDigits : n-1], full: full, left: full[:panDigits]}
}
