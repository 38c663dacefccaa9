package hsm

import (
	"crypto/cipher"
	"fmt"
)

// runM0 enciphers data (facts/hsm.md §1.5).
func runM0(q *request) errorCode { return q.crypt(true) }

// crypt is M0 and M2.
func (q *request) crypt(encrypt bool) errorCode {
	mode := q.oneOf(2, "00", "01")
	in, out := first(q.oneOf(1, "0", "1", "2")), first(q.oneOf(1, "0", "1", "2"))
	keyType, raw := q.keyType(), q.key()
	iv := q.iv(mode, raw)
	data := q.data(in)
	if code := q.finish(); code != codeOK {
		return code
	}
	if code := q.permit(keyType, dataTypes); code != codeOK {
		return code
	}
	want := decryptData
	if encrypt {
		want = encryptData
	}
	k, code := q.open(keyType, want, raw, codeSource)
	if code != codeOK {
		return code
	}
	if len(data) == 0 || len(data)%k.blockSize() != 0 {
		return codeData
	}
	result, next := cryptBlocks(k, mode, iv, data, encrypt)
	if mode == "01" {
		q.out = append(q.out, upperHex(next)...)
	}
	q.putData(out, result)
	return codeOK
}

// iv reads the initial value that CBC needs; ECB has none.
func (q *request) iv(mode string, raw rawKey) []byte {
	if mode != "01" {
		return nil
	}
	return q.hex(raw.blockBytes())
}

// cryptBlocks enciphers or deciphers whole blocks and returns, for CBC, the last cipher block for chaining.
func cryptBlocks(k *key, mode string, iv, data []byte, encrypt bool) (result, next []byte) {
	n := k.blockSize()
	switch {
	case mode == "00" && encrypt:
		return ecbEncrypt(k.block, data), nil
	case mode == "00":
		return ecbDecrypt(k.block, data), nil
	}
	result = make([]byte, len(data))
	if encrypt {
		cipher.NewCBCEncrypter(k.block, iv).CryptBlocks(result, data)
		return result, result[len(result)-n:]
	}
	cipher.NewCBCDecrypter(k.block, iv).CryptBlocks(result, data)
	return result, data[len(data)-n:]
}

// putData appends length and data; the length counts characters as sent.
func (q *request) putData(format byte, data []byte) {
	text := string(data)
	if format == '1' {
		text = upperHex(data)
	}
	q.out = fmt.Appendf(q.out, "%04X%s", len(text), text)
}
