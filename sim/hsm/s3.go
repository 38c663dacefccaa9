package hsm

import "fmt"

// runS3 enciphers binary data with a key that may be diversified first (facts/hsm.md §1.7.3, docs/hsm-sim.md §5.5).
func runS3(q *request) errorCode { return q.cardCrypt(true) }

// cardCrypt is S3 and S4.
func (q *request) cardCrypt(encrypt bool) errorCode {
	mode := q.oneOf(2, "00", "01")
	spec := q.keySpec(maxFactors)
	padding := q.padding()
	data := q.binary()
	iv := q.iv(mode, spec.raw)
	if code := q.finish(); code != codeOK {
		return code
	}
	if code := q.permit(spec.keyType, dataTypes); code != codeOK {
		return code
	}
	want := decryptData
	if encrypt {
		want = encryptData
	}
	k, code := q.resolve(spec, want, codeSource)
	if code != codeOK {
		return code
	}
	var result []byte
	if encrypt {
		result, code = encryptPadded(k, mode, iv, data, padding)
	} else {
		result, code = decryptPadded(k, mode, iv, data, padding)
	}
	if code != codeOK {
		return code
	}
	q.out = append(fmt.Appendf(q.out, "%04X", len(result)), result...)
	return codeOK
}

func encryptPadded(k *key, mode string, iv, data []byte, padding string) ([]byte, errorCode) {
	padded, code := padData(data, k.blockSize(), padding)
	if code != codeOK {
		return nil, code
	}
	result, _ := cryptBlocks(k, mode, iv, padded, true)
	return result, codeOK
}

func decryptPadded(k *key, mode string, iv, data []byte, padding string) ([]byte, errorCode) {
	if len(data) == 0 || len(data)%k.blockSize() != 0 {
		return nil, codeData
	}
	clear, _ := cryptBlocks(k, mode, iv, data, false)
	return unpadData(clear, k.blockSize(), padding)
}

// padding reads a padding code.
func (q *request) padding() string {
	return q.oneOf(2, padPBOC, pad80s, padZeros, padX923, padPKCS, padNone)
}

// binary reads a 4-hex-digit length and that many bytes.
func (q *request) binary() []byte { return q.data('0') }

// keySpec is a key with the ways to make another key from it: levels of PBOC factors, then a session key.
type keySpec struct {
	keyType string
	raw     rawKey
	factors [][]byte
	session []byte // nil none, 8 bytes single DES, 16 bytes ECB.
}

// ivBytes is the length of the initial value of the key's algorithm.
func (s keySpec) ivBytes() int { return s.raw.blockBytes() }

// keySpec reads type, key, levels, factors and session.
func (q *request) keySpec(maxLevels int) keySpec {
	var s keySpec
	s.keyType, s.raw = q.keyType(), q.key()
	s.factors = q.factors(q.number(2, 10, 0, maxLevels), singleFactor)
	switch q.oneOf(2, "00", "01", "02") {
	case "01":
		s.session = q.hex(singleFactor)
	case "02":
		s.session = q.hex(doubleFactor)
	}
	return s
}

// resolve opens the key and makes the derived and the session key.
func (q *request) resolve(s keySpec, want purpose, bad errorCode) (*key, errorCode) {
	k, code := q.open(s.keyType, want, s.raw, bad)
	for _, factor := range s.factors {
		if code != codeOK {
			return nil, code
		}
		k, code = derive(k, factor)
	}
	if code != codeOK || s.session == nil {
		return k, code
	}
	if len(s.session) == doubleFactor {
		return derive(k, s.session)
	}
	if k.alg != algDES {
		return nil, codeLength
	}
	return newKey(algDES, ecbEncrypt(k.block, s.session)), codeOK
}
