package hsm

// runBU answers the check value of a key of any type (facts/hsm.md §1.3, docs/hsm-sim.md §5.2, §9.4).
func runBU(q *request) errorCode {
	f := q.typedKey()
	digits := 16
	if q.delimiter() {
		q.oneOf(2, "00")
		digits = q.checkDigits()
	}
	if code := q.finish(); code != codeOK {
		return code
	}
	if !f.lengthFits() {
		return codeLengthFlag
	}
	if q.blocks != (f.keyType == blockType) {
		return codeKeyType
	}
	if !q.blocks && !q.rule.permits(f.keyType) {
		return codeForbidden
	}
	k, code := q.open(f.keyType, anyKey, f.raw, codeSource)
	if code != codeOK {
		return code
	}
	q.out = append(q.out, k.checkValue()[:digits]...)
	return codeOK
}

// typedField is the start that BU and BW share: a type in two characters, a length flag, a key, and the type in three when the two
// are FF.
type typedField struct {
	keyType string
	flag    byte
	raw     rawKey
}

func (q *request) typedKey() typedField {
	var f typedField
	short := q.text(2)
	f.flag = first(q.oneOf(1, "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "F"))
	size := 8 * (int(f.flag-'0') + 1)
	if f.flag == 'F' {
		size = 8
	}
	f.raw = q.keyOrBare(min(size, maxKeyBytes))
	if q.code != "" {
		return f
	}
	if short == "FF" {
		if !q.delimiter() {
			q.fail(codeInput)
		}
		f.keyType = q.keyType()
		return f
	}
	// The short form leaves out the middle digit, so it can only name types whose middle digit is 0.
	f.keyType = short[:1] + "0" + short[1:]
	if _, ok := placeOf(f.keyType); !ok {
		q.fail(codeKeyType)
	}
	return f
}

// lengthFits says whether the length flag tells the length of the key.
func (f typedField) lengthFits() bool {
	if f.raw.letter == letterBlock || f.flag == 'F' {
		return f.raw.letter == letterBlock && f.flag == 'F'
	}
	return f.flag <= '2' && len(f.raw.sealed) == 8*(int(f.flag-'0')+1)
}
