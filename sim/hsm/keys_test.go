package hsm

import (
	"strings"
	"testing"
)

// TestWorkingKeys follows a sign-on: working keys under the TMK and under the LMK hold the same clear key.
func TestWorkingKeys(t *testing.T) {
	t.Parallel()
	const clear = "D4146FE0C6C8D651FD501CD4376E71F7" // A derived key: its parity is not odd.
	for name, legacy := range map[string]bool{"separated": false, "legacy": true} {
		d := startDevice(t, Config{LegacyTypes: legacy, IgnoreParity: legacy})
		c := dial(t, d, "all")
		tmkType, tpkType := typeTMK, typeTPK
		if legacy {
			tmkType, tpkType = typePVK, typePVK
		}
		for _, row := range []struct{ letter, tail, under, local string }{
			{"U", ";XU0", "X", "U"}, {"U", ";UU0", "U", "U"}, {"U", ";ZZ0", "Z", "Z"}, {"U", "", "Z", "Z"}, {"U", ";00" + "1", "Z", "Z"},
			{"X", ";YT0", "Y", "T"}, {"R", ";RR0", "R", "R"},
		} {
			tmk := sealed(t, d, tmkType, row.letter, clear)
			outer, code := d.base.variant.open(tmkType, rawKey{letter: row.letter[0], sealed: unhex(t, tmk[1:])})
			if code != codeOK {
				t.Fatal(code)
			}
			for command, keyType := range map[string]string{"HA": typeTAK, "HC": tpkType, "A0": typeTDK} {
				body := command + tmk + row.tail
				if command == "A0" {
					body = "A01" + typeTDK + row.local + ";1" + tmk + row.under
				}
				answer := c.must(body)
				f := &fields{buf: []byte(answer)}
				first, second := f.key(), f.key()
				if command == "A0" {
					first, second = second, first
					if len(f.buf)-f.pos != 6 {
						t.Errorf("%s A0: no 6H check value", name)
					}
				}
				if f.code != "" || first.letter != row.under[0] || second.letter != row.local[0] {
					t.Fatalf("%s %s %s: answer does not parse", name, command, row.tail)
				}
				inside, code := d.base.variant.open(keyType, second)
				if code != codeOK {
					t.Fatal(code)
				}
				outside, code := importUnder(outer, first)
				if code != codeOK {
					t.Fatal(code)
				}
				same(t, name+command+row.tail, upperHex(inside.clear), upperHex(outside.clear))
				if inside.alg == algDES && !oddParity(inside.clear) {
					t.Errorf("%s %s: parity is not odd", name, command)
				}
			}
		}
	}
}

func TestKeyRefusals(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{})
	c := dial(t, d, "all")
	const clear = "0123456789ABCDEFFEDCBA9876543210"
	tmk, smTMK, short := sealed(t, d, typeTMK, "U", clear), sealed(t, d, typeTMK, "R", clear), sealed(t, d, typeTMK, "Z", clear[:16])
	zmk, zpk := sealed(t, d, typeZMK, "U", clear), sealed(t, d, typeZPK, "U", clear)
	for name, row := range map[string]struct{ body, code string }{
		"two lengths":             {"HA" + tmk + ";XZ0", "27"},
		"SM4 key, DES TMK":        {"HA" + tmk + ";RR0", "27"},
		"DES key, SM4 TMK":        {"HC" + smTMK + ";XU0", "27"},
		"mixed":                   {"HC" + smTMK + ";RU0", "27"},
		"single TMK, double key":  {"HC" + short + ";XU0", "27"},
		"unknown scheme":          {"HC" + tmk + ";QU0", "26"},
		"key block, not whole":    {"HCS10112;XU0", "15"},
		"key block of no size":    {"HCS00000;XU0", "83"},
		"stored key":              {"HCK0001;XU0", "12"},
		"third character":         {"HC" + tmk + ";XU7", "15"},
		"A0 mode 2":               {"A02001U", "15"},
		"A0 PIN key of a zone":    {"A01001U;1" + tmk + "X", "29"},
		"A0 exports a ZMK":        {"A01000U;0" + zmk + "X", "29"},
		"A0 unknown type":         {"A00ZZZU", "28"},
		"A8 exports a ZMK":        {"A8000" + zmk + zmk + "X", "29"},
		"A8 shorter scheme":       {"A8001" + zmk + zpk + "Z", "27"},
		"A6 of type 10A":          {"A610A" + zmk + "X" + clear + "U", "29"},
		"A6 DES key as SM4":       {"A6001" + zmk + "R" + clear + "R", "27"},
		"KR of type 10A":          {"KR10AU", "29"},
		"BU length flag":          {"BU010" + zpk, "05"},
		"BU length flag 3":        {"BU013" + zpk, "05"},
		"BU unknown type":         {"BU0Z1" + zpk, "28"},
		"BU FF without type":      {"BUFF1" + zpk, "15"},
		"BU of a wrong type":      {"BU031" + zpk, "10"},
		"GC destination parity":   {"GC" + zmk + "U00000000000000000000000000000000", "11"},
		"FA of a key of zeros":    {"FA" + zmk + "X08D7B4FB629D088508D7B4FB629D0885", "11"},
		"N0 of nothing":           {"N0000", "15"},
		"NO mode 2":               {"NO02", "15"},
		"NC with rubbish":         {"NCxyz", "15"},
		"B2 with too much":        {"B20001ab", "15"},
		"trailer longer than 32":  {"NC\x19" + strings.Repeat("x", 33), "15"},
		"unknown command":         {"ZZ", "68"},
		"command outside ASCII":   {"\xff\xff\x00\x00", "68"},
		"lower-case command":      {"nc", "68"},
		"fields missing entirely": {"CA", "15"},
	} {
		if code, rest := c.ask(row.body); code != row.code || strings.TrimLeft(rest, "\x19x") != "" {
			t.Errorf("%s: code %s with %q, want %s and nothing", name, code, rest, row.code)
		}
	}
}

func TestImportCorrectsParity(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{})
	c := dial(t, d, "all")
	const clear = "0123456789ABCDEFFEDCBA9876543210"
	zmk := sealed(t, d, typeZMK, "U", clear)
	outer := newKey(algDES, unhex(t, clear))
	even := upperHex(ecbEncrypt(outer.block, unhex(t, "00112233445566778899AABBCCDDEEFF")))
	for body, want := range map[string]string{
		"A6001" + zmk + "X" + even + "U":                           "01", // Corrected.
		"FA" + zmk + "X" + even:                                    "01",
		"A680D" + zmk + "X" + even + "U":                           "00", // Derived keys stay as they are.
		"A6011" + zmk + "X" + even + "U":                           "00",
		"A8001" + zmk + "U" + clear + "X":                          "11", // What is not a key under this LMK fails.
		"A6001" + "U" + strings.Repeat("0", 32) + "X" + even + "U": "10",
	} {
		code, rest := c.ask(body)
		if code != want || (code < "02") != (len(rest) > 33) {
			t.Errorf("%.5s: code %s, %d characters, want %s", body, code, len(rest), want)
		}
		if code == "01" && c.must("BU011" + rest[:33])[:6] != rest[33:39] {
			t.Errorf("%.5s: the corrected key has another check value", body)
		}
	}
	// An SM4 key travels under an SM4 ZMK.
	smZMK := sealed(t, d, typeZMK, "R", clear)
	made := c.must("A01" + typeZPK + "R;0" + smZMK + "R")
	same(t, "SM4 import", c.must("A6001"+smZMK+made[33:66]+"R"), made[:33]+made[66:])
	same(t, "SM4 GC", c.must("GC" + smZMK + made[:33])[:33], made[33:66])
}

func TestCeremonyRefusals(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{})
	good := unhex(t, "0123456789ABCDEFFEDCBA9876543210")
	for name, err := range map[string]error{
		"unknown type":   second(d.EncryptUnderLMK("ZZZ", "U", good)),
		"short type":     second(d.EncryptUnderLMK("01", "U", good)),
		"unknown scheme": second(d.EncryptUnderLMK("001", "Q", good)),
		"empty scheme":   second(d.EncryptUnderLMK("001", "", good)),
		"long scheme":    second(d.EncryptUnderLMK("001", "UX", good)),
		"wrong length":   second(d.EncryptUnderLMK("001", "T", good)),
		"even parity":    second(d.EncryptUnderLMK("001", "U", unhex(t, "00112233445566778899AABBCCDDEEFF"))),
		"AES of 8 bytes": second(CheckValue("AES", good[:8])),
		"no such cipher": second(CheckValue("DEA", good)),
		"no key":         second(CheckValue("DES", nil)),
		"SM4 of 8 bytes": second(CheckValue("SM4", good[:8])),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		} else if strings.Contains(strings.ToUpper(err.Error()), "01234567") {
			t.Errorf("%s: the error shows the key", name)
		}
	}
}

func second(_ string, err error) error { return err }
