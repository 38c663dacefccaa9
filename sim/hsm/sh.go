package hsm

import "fmt"

const (
	shHeaderBytes    = 4  // LD, usage, version, algorithm (facts/psam.md §3.2).
	shLengthOverhead = 3  // LD counts usage, version and algorithm besides the key.
	shMACHeaderMax   = 16 // The longest APDU header accepted in front of the cipher.
)

// runSH exports a key under a card control key with a clear header in front, and MACs the result: what the PSAM command
// WRITE KEY 84 D4 carries (facts/psam.md §3.2, layout in docs/hsm-sim.md §5.3).
func runSH(q *request) errorCode {
	q.oneOf(2, "00")
	outerType, outerRaw := q.keyType(), q.key()
	innerType, innerRaw := q.keyType(), q.key()
	q.number(2, 16, shHeaderBytes, shHeaderBytes)
	header := q.hex(shHeaderBytes)
	q.oneOf(2, "01")
	algorithm := q.oneOf(2, "01", "03")
	take := q.number(2, 16, 1, 16)
	q.oneOf(2, "01")
	iv := q.hex(outerRaw.blockBytes())
	macHeader := q.hex(q.number(2, 16, 0, shMACHeaderMax))
	if code := q.finish(); code != codeOK {
		return code
	}
	if take != 4 && take != 8 {
		return codeInput
	}
	if code := q.typed(outerType, setOf(typeControl)); code != codeOK {
		return code
	}
	if code := q.typed(innerType, setOf(typeControl, q.tmkType())); code != codeOK {
		return code
	}
	outer, code := q.open(outerType, protectCard, outerRaw, codeSource)
	if code != codeOK {
		return code
	}
	inner, code := q.open(innerType, intoCard, innerRaw, codeDest)
	if code != codeOK {
		return code
	}
	if code := q.mayLeave(inner.attributes, false); code != codeOK {
		return code
	}
	if outer.alg != inner.alg || len(outer.clear) != 16 || len(inner.clear) > 16 || (outer.alg == algSM4) != (algorithm == "01") {
		return codeLength
	}
	// A free header would let a caller shift the key over the block bounds and find it byte by byte.
	if int(header[0]) != len(inner.clear)+shLengthOverhead {
		return codeInput
	}
	plain := append(append([]byte(nil), header...), inner.clear...)
	sealed := ecbEncrypt(outer.block, pad80(plain, outer.blockSize()))
	input := pad80(append(append([]byte(nil), macHeader...), sealed...), outer.blockSize())
	mac, code := computeMAC(outer, algorithm[1], iv, input)
	if code != codeOK {
		return code
	}
	q.out = fmt.Appendf(q.out, "%04X%s%s", len(sealed), upperHex(sealed), upperHex(mac[:take]))
	return codeOK
}
