package hsm

import (
	"strconv"
	"testing"

	"github.com/keyward/keyward/internal/vectors"
)

// headerOf is the length of a header with its optional blocks: id 2, length 2H, or 00, the number of its digits, and those.
func headerOf(block string) int {
	count, err := strconv.Atoi(block[12:14])
	at := headerChars
	for range count {
		if err != nil || at+4 > len(block) {
			return len(block)
		}
		var n uint64
		if n, err = strconv.ParseUint(block[at+2:at+4], 16, 16); n == 0 && err == nil && at+6 <= len(block) {
			var digits uint64
			digits, _ = strconv.ParseUint(block[at+4:at+6], 16, 16)
			n, err = strconv.ParseUint(block[at+6:at+6+int(digits)], 16, 16)
		}
		at += int(n)
	}
	return min(at, len(block))
}

func ours(version byte) bool { return version == tr31TDES || version == tr31AES }

// TestTR31Keys derives the keys of version B as published; version D is held by the blocks below.
func TestTR31Keys(t *testing.T) {
	t.Parallel()
	for _, v := range vectors.Load(t, "tr31.json").Group(t, "kdf") {
		if vectors.Str(v.In, "versions") != "B" {
			continue
		}
		b := newBinding(tr31TDES, vectors.Hex(t, v.In, "kbpk"))
		for what, pair := range map[string][2]any{
			"kbek": {b.encrypt, vectors.Hex(t, v.Out, "kbek")}, "kbak": {b.mac, vectors.Hex(t, v.Out, "kbak")},
		} {
			zero, got, want := make([]byte, 8), make([]byte, 8), make([]byte, 8)
			pair[0].(interface{ Encrypt(_, _ []byte) }).Encrypt(got, zero)
			desBlock(pair[1].([]byte)).Encrypt(want, zero)
			same(t, v.ID+" "+what, upperHex(got), upperHex(want))
		}
	}
}

// TestTR31Blocks opens every published block of the two versions and makes it again with the same padding.
func TestTR31Blocks(t *testing.T) {
	t.Parallel()
	run := map[byte]int{}
	for _, v := range vectors.Load(t, "tr31.json").Group(t, "unwrap") {
		block := vectors.Str(v.In, "block")
		if !ours(block[0]) {
			continue
		}
		run[block[0]]++
		b, n := newBinding(block[0], vectors.Hex(t, v.In, "kbpk")), headerOf(block)
		clear, ok := b.open([]byte(block), n)
		if !ok {
			t.Errorf("%s: does not open", v.ID)
			continue
		}
		same(t, v.ID, upperHex(clear), vectors.Str(v.Out, "key"))
		upper := block[:n] + upperHex(unhex(t, block[n:]))
		same(t, v.ID+" again", string(b.seal(block[:n], clear, vectors.Hex(t, v.Out, "pad"))), upper)
	}
	if run[tr31TDES] < 5 || run[tr31AES] < 9 {
		t.Errorf("blocks run: %v", run)
	}
}

// TestTR31Refused: every altered or malformed block of the two versions is refused, by its form or by its MAC.
func TestTR31Refused(t *testing.T) {
	t.Parallel()
	file, run := vectors.Load(t, "tr31.json"), 0
	for _, group := range []string{"unwrap_reject", "tamper_reject"} {
		for _, v := range file.Group(t, group) {
			block, kbpk := vectors.Str(v.In, "block"), vectors.Hex(t, v.In, "kbpk")
			if !ours(block[0]) || len(kbpk)%8 != 0 || block[0] == tr31TDES && len(kbpk) > 24 {
				continue // Other versions, and protection keys that no field can carry.
			}
			run++
			f := fields{buf: []byte(block)}
			f.block(letterTR31, block[0], headerChars, maxTR31Chars)
			formed := f.code == "" || f.code == codeOptional
			if _, ok := newBinding(block[0], kbpk).open([]byte(block), headerOf(block)); ok && formed && f.end() == nil {
				t.Errorf("%s (%s) opens", v.ID, vectors.Str(v.In, "why"))
			}
		}
	}
	if run < 20 {
		t.Errorf("%d rows run", run)
	}
}

func TestAESCheckValuesAndCMAC(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{IgnoreParity: true, DefaultLMK: "01"})
	c := dial(t, d, "all")
	algorithm := map[int]string{16: "A1", 24: "A2", 32: "A3"}
	for _, v := range vectors.Load(t, "kcv.json").Group(t, "aes_cmac_zero") {
		clear, want := vectors.Hex(t, v.In, "key"), vectors.Str(v.Out, "kcv")
		field := blockKey(t, d, "22"+algorithm[len(clear)]+"B00N00", upperHex(clear))
		same(t, v.ID, c.must("BUFFF" + field + ";FFF;000")[:len(want)], want)
		kcv, err := CheckValue("AES", clear)
		if err != nil {
			t.Fatal(err)
		}
		same(t, v.ID+" value", kcv[:len(want)], want)
	}
	file := vectors.Load(t, "mac.json")
	for group, size := range map[string]string{"aes_cmac": "2", "tdes_cmac": "1"} {
		for _, v := range file.Group(t, group) {
			clear, msg := vectors.Hex(t, v.In, "key"), vectors.Str(v.In, "msg")
			attributes := "M6" + algorithm[len(clear)] + "G00N00"
			if group == "tdes_cmac" {
				attributes = "M6T" + strconv.Itoa(len(clear)/8) + "G00N00"
			}
			body := "M601" + size + "60FFF" + blockKey(t, d, attributes, upperHex(clear)) + fmt4(len(msg)) + msg
			want := vectors.Str(v.Out, "mac")
			same(t, v.ID, c.must(body)[:len(want)], want)
		}
	}
}

// fmt4 is a length field.
func fmt4(n int) string { return upperHex([]byte{byte(n >> 8), byte(n)}) }

func TestAESPIN(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{IgnoreParity: true, DefaultLMK: "01"})
	c := dial(t, d, "all")
	zpk := blockKey(t, d, "72T2B00N00", "0123456789ABCDEFFEDCBA9876543210")
	for _, v := range vectors.Load(t, "pinblock.json").Group(t, "iso4_encrypt") {
		key, pan := vectors.Str(v.In, "key"), vectors.Str(v.In, "pan")
		block, aes := vectors.Str(v.Out, "block"), blockKey(t, d, "72A1B00N00", key)
		out := c.must("CC" + aes + zpk + "12" + block + "4801" + pan + ";")
		same(t, v.ID+" length", out[:2], "04")
		back := c.must("CC" + zpk + aes + "12" + out[2:18] + "0148" + pan + ";")
		same(t, v.ID+" there and back", c.must("CC"+aes+zpk+"12"+back[2:34]+"4801"+pan+";"), out)
		same(t, v.ID+" with TI", c.must("TI2"+aes+"2"+zpk+"12"+block+"48"+pan+";"+"01"+pan12(pan)), out)
	}
	for _, v := range vectors.Load(t, "pinblock.json").Group(t, "translate") {
		if vectors.Str(v.In, "dst_format") != "ISO-4" {
			continue
		}
		pan, source, dest := vectors.Str(v.In, "pan"), vectors.Str(v.In, "src_key"), vectors.Str(v.In, "dst_key")
		from, to := blockKey(t, d, "71T2D00N00", source), blockKey(t, d, "72A1B00N00", dest)
		out := c.must("CA" + from + to + "12" + vectors.Str(v.In, "src_block") + "0148" + pan + ";")
		// The filler is random, so both blocks are turned back.
		back := func(block string) string { return c.must("CC" + to + zpk + "12" + block + "4801" + pan + ";") }
		same(t, v.ID, back(out[2:34]), back(vectors.Str(v.Out, "dst_block")))
	}
	for _, v := range vectors.Load(t, "pinblock.json").Group(t, "reject") {
		if key := vectors.Str(v.In, "key"); vectors.Int(v.In, "format", -1) == 4 && key != "" {
			body := "CC" + blockKey(t, d, "72A1B00N00", key) + zpk + "12" + vectors.Str(v.In, "block") + "4801" + vectors.Str(v.In, "pan") + ";"
			c.wantCode(body, "20")
		}
	}
}
