package hsm

// runS0 makes a MAC with a key that may be diversified first (facts/hsm.md §1.7.3, docs/hsm-sim.md §5.6).
func runS0(q *request) errorCode {
	algorithm := q.oneOf(2, "01", "03", "06")
	take := q.number(2, 16, 1, 16)
	spec := q.keySpec(maxMACFactors)
	padding := q.oneOf(2, pad80s, padZeros, padNone)
	data := q.binary()
	iv := q.hex(spec.ivBytes())
	if code := q.finish(); code != codeOK {
		return code
	}
	if take != 4 && take != 8 && take != len(iv) || algorithm == "06" && !allZero(iv) {
		return codeInput
	}
	if code := q.permit(spec.keyType, cardMACTypes); code != codeOK {
		return code
	}
	k, code := q.resolve(spec, cardMAC(algorithm[1]), codeSource)
	if code != codeOK {
		return code
	}
	if algorithm != "06" {
		if data, code = padData(data, k.blockSize(), padding); code != codeOK {
			return code
		}
	}
	mac, code := computeMAC(k, algorithm[1], iv, data)
	if code != codeOK {
		return code
	}
	q.out = append(q.out, upperHex(mac[:take])...)
	return codeOK
}
