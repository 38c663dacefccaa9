package hsm

import (
	"fmt"
	"testing"

	"github.com/keyward/keyward/internal/vectors"
)

func TestTranslateVectors(t *testing.T) {
	t.Parallel()
	d, c := vectorDevice(t)
	codes := map[string]string{"ANSI X9.8": "01", "Diebold": "03"}
	for _, v := range vectors.Load(t, "pinblock.json").Group(t, "translate") {
		from, to := codes[vectors.Str(v.In, "src_format")], codes[vectors.Str(v.In, "dst_format")]
		if from == "" || to == "" {
			t.Logf("%s: %s is in TestAESPIN", v.ID, vectors.Str(v.In, "dst_format"))
			continue
		}
		body := "CA" + sealed(t, d, typePVK, "U", vectors.Str(v.In, "src_key")) + sealed(t, d, typeZPK, "U", vectors.Str(v.In, "dst_key")) + "12" +
			vectors.Str(v.In, "src_block") + from + to + vectors.Str(v.In, "pan12")
		same(t, v.ID, c.must(body), "04"+vectors.Str(v.Out, "dst_block")+to)
	}
}

// pan12 is the right twelve digits without the check digit.
func pan12(pan string) string { return pan[len(pan)-13 : len(pan)-1] }

func TestSM4PINVectors(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{})
	c := dial(t, d, "all")
	const zpkClear = "0123456789ABCDEFFEDCBA9876543210"
	zpk, smZPK := sealed(t, d, typeZPK, "U", zpkClear), sealed(t, d, typeZPK, "R", zpkClear)
	run := 0
	for _, v := range vectors.Load(t, "pinblock.json").Group(t, "sm4_pin") {
		key, pan, pin := vectors.Str(v.In, "key"), vectors.Str(v.In, "pan"), vectors.Str(v.In, "pin")
		block := vectors.Str(v.Out, "block")
		if key == "" {
			key = zpkClear // The row gives the clear block only.
			block = upperHex(ecbEncrypt(sm4Block(unhex(t, key)), vectors.Hex(t, v.Out, "clear")))
		}
		format, field := "92", "123456789012"
		if pan != "" {
			format, field = "91", pan12(pan)
		}
		twelve := field
		if vectors.Str(v.In, "layout") == "iso4-like" {
			format, field = "48", pan+";"
		}
		run++
		tpk := sealed(t, d, typeTPK, "R", key)
		length := fmt.Sprintf("%02d", len(pin))
		same(t, v.ID, c.must("TI1" + tpk + "2" + smZPK + "12" + block + format + field + "92" + twelve)[:2], length)

		// SM4 to ISO-0 and back to every SM4 form, then the first form again: the block must be the same.
		answer := c.must("TI1" + tpk + "2" + zpk + "12" + block + format + field + "01" + twelve)
		same(t, v.ID+" to ISO-0", answer[:2]+answer[18:], length+"01")
		for _, form := range []string{"91", "92", "93", "48"} {
			to := twelve
			if form == "48" {
				if to = pan + ";"; pan == "" {
					continue
				}
			}
			wide := c.must("TI2" + zpk + "2" + smZPK + "12" + answer[2:18] + "01" + twelve + form + to)
			same(t, v.ID+" form "+form, c.must("TI2" + smZPK + "2" + zpk + "12" + wide[2:34] + form + to + "01" + twelve)[2:18], answer[2:18])
		}
		if format == "91" {
			back := c.must("TI2" + zpk + "2" + sealed(t, d, typeZPK, "R", key) + "12" + answer[2:18] + "01" + twelve + "91" + twelve)
			same(t, v.ID+" back", back[2:34], block)
		}
	}
	if run == 0 {
		t.Error("no row was run")
	}
}

// TestPINFormats walks a PIN of every length through every pair of formats and back.
func TestPINFormats(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{})
	c := dial(t, d, "all")
	zpk := sealed(t, d, typeZPK, "U", "0123456789ABCDEFFEDCBA9876543210")
	const pan = "550000025321"
	for n := 4; n <= 12; n++ {
		start, code := sealPIN(newKey(algDES, unhex(t, "0123456789ABCDEFFEDCBA9876543210")), "01", []byte("123456789012")[:n], account{twelve: []byte(pan)})
		if code != codeOK {
			t.Fatal(code)
		}
		for _, format := range []string{"01", "03", "05", "47"} {
			there := c.must("CC" + zpk + zpk + "12" + upperHex(start) + "01" + format + pan)
			back := c.must("CC" + zpk + zpk + "12" + there[2:18] + format + "01" + pan)
			same(t, fmt.Sprintf("length %d format %s", n, format), back, fmt.Sprintf("%02d%s01", n, upperHex(start)))
		}
	}
}

func TestPINErrors(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{})
	c := dial(t, d, "all")
	const clear, pan = "0123456789ABCDEFFEDCBA9876543210", "550000025321"
	tpk, zpk := sealed(t, d, typeTPK, "U", clear), sealed(t, d, typeZPK, "U", clear)
	smTPK, smZPK := sealed(t, d, typeTPK, "R", clear), sealed(t, d, typeZPK, "R", clear)
	k := newKey(algDES, unhex(t, clear))
	blockOf := func(plain string) string {
		b := unhex(t, plain)
		xorInto(b, panField8(account{twelve: []byte(pan)}))
		return upperHex(ecbEncrypt(k.block, b))
	}
	good := blockOf("041234FFFFFFFFFF")
	for name, row := range map[string]struct{ body, code string }{
		"good":                   {"CA" + tpk + zpk + "12" + good + "0101" + pan, "00"},
		"wrong account":          {"CA" + tpk + zpk + "12" + good + "0101" + "550000025322", "20"},
		"wrong key":              {"CA" + sealed(t, d, typeTPK, "U", "FEDCBA98765432100123456789ABCDEF") + zpk + "12" + good + "0101" + pan, "20"},
		"control nibble":         {"CA" + tpk + zpk + "12" + blockOf("141234FFFFFFFFFF") + "0101" + pan, "20"},
		"letter in the PIN":      {"CA" + tpk + zpk + "12" + blockOf("04123AFFFFFFFFFF") + "0101" + pan, "20"},
		"filler not F":           {"CA" + tpk + zpk + "12" + blockOf("041234FFFFFFFFF0") + "0101" + pan, "20"},
		"length 15":              {"CA" + tpk + zpk + "12" + blockOf("0F12345678901234") + "0101" + pan, "20"},
		"length 3":               {"CA" + tpk + zpk + "12" + blockOf("03123FFFFFFFFFFF") + "0101" + pan, "24"},
		"length 13":              {"CA" + tpk + zpk + "12" + blockOf("0D1234567890123F") + "0101" + pan, "24"},
		"over the stated length": {"CA" + tpk + zpk + "04" + blockOf("0512345FFFFFFFFF") + "0101" + pan, "24"},
		"Diebold, letter after":  {"CA" + tpk + zpk + "12" + upperHex(ecbEncrypt(k.block, unhex(t, "1234FFFFFFFFFFF1"))) + "0301" + pan, "20"},
		"Diebold, too short":     {"CA" + tpk + zpk + "12" + upperHex(ecbEncrypt(k.block, unhex(t, "123FFFFFFFFFFFFF"))) + "0301" + pan, "24"},
		"form A, not zero":       {"TI1" + smTPK + "2" + smZPK + "12" + good + good + "93" + pan + "91" + pan, "20"},
		"unknown format":         {"CA" + tpk + zpk + "12" + good + "0102" + pan, "23"},
		"SM4 format in CA":       {"CA" + tpk + zpk + "12" + good + "0191" + pan, "23"},
		"account not digits":     {"CA" + tpk + zpk + "12" + good + "0101" + "55000002532A", "22"},
		"account short":          {"CA" + tpk + zpk + "12" + good + "0101" + pan[1:], "15"},
		"account long":           {"CA" + tpk + zpk + "12" + good + "0101" + pan + "1", "15"},
		"source parity":          {"CA" + "U00000000000000000000000000000000" + zpk + "12" + good + "0101" + pan, "10"},
		"destination parity":     {"CA" + tpk + "U00000000000000000000000000000000" + "12" + good + "0101" + pan, "11"},
		"ZPK as TPK":             {"CA" + zpk + zpk + "12" + good + "0101" + pan, "10"},
		"DUKPT destination":      {"CA" + tpk + "*" + zpk + "12" + good + "0101" + pan, "26"},
		"SM4 key in CA":          {"CA" + smTPK + zpk + "12" + good + "0101" + pan, "27"},
		"TI other account":       {"TI1" + tpk + "2" + zpk + "12" + good + "01" + pan + "01" + "550000025322", "22"},
		"TI to a TPK":            {"TI1" + tpk + "1" + tpk + "12" + good + "01" + pan + "01" + pan, "29"},
		"TI format of SM4":       {"TI1" + tpk + "2" + zpk + "12" + good + "01" + pan + "91" + pan, "23"},
		"TI format of 3DES":      {"TI1" + smTPK + "2" + smZPK + "12" + good + good + "01" + pan + "91" + pan, "23"},
		"TI wide, garbage":       {"TI1" + smTPK + "2" + smZPK + "12" + good + good + "91" + pan + "91" + pan, "20"},
		"TI ISO-4 account open":  {"TI1" + smTPK + "2" + smZPK + "12" + good + good + "48" + "5500000253210" + "91" + pan, "22"},
		"TI unknown format":      {"TI1" + tpk + "2" + zpk + "12" + good + "99" + pan + "01" + pan, "23"},
	} {
		if code, rest := c.ask(row.body); code != row.code || code != "00" && rest != "" {
			t.Errorf("%s: code %s with %d characters, want %s", name, code, len(rest), row.code)
		}
	}
	// A UnionPay block without PAN is ISO-0 with twelve zeros, and may get its account on the way out.
	bare := upperHex(ecbEncrypt(k.block, unhex(t, "06123456FFFFFFFF")))
	same(t, "without PAN", c.must("TI1" + tpk + "2" + zpk + "12" + bare + "01000000000000" + "01" + pan)[:2], "06")
}
