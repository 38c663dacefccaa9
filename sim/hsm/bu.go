package hsm

// runBU answers the check value of a key of any type (facts/hsm.md §1.3, docs/hsm-sim.md §5.2).
func runBU(q *request) errorCode {
	short := q.text(2)
	flag := q.number(1, 10, 0, 9)
	size := 8 * (flag + 1)
	raw := q.keyOrBare(min(size, maxKeyBytes))
	keyType := ""
	if q.code == "" && short == "FF" {
		if !q.delimiter() {
			q.fail(codeInput)
		}
		keyType = q.keyType()
	} else if q.code == "" {
		// The short form leaves out the middle digit, so it can only name types whose middle digit is 0.
		keyType = short[:1] + "0" + short[1:]
		if _, ok := placeOf(keyType); !ok {
			q.fail(codeKeyType)
		}
	}
	digits := 16
	if q.delimiter() {
		q.oneOf(2, "00")
		if q.oneOf(1, "0", "1") == "1" {
			digits = 6
		}
	}
	if code := q.finish(); code != codeOK {
		return code
	}
	if flag > 2 || size != len(raw.sealed) {
		return codeLengthFlag
	}
	if !q.rule.permits(keyType) {
		return codeForbidden
	}
	k, code := q.open(keyType, raw, codeSource)
	if code != codeOK {
		return code
	}
	q.out = append(q.out, k.checkValue()[:digits]...)
	return codeOK
}
