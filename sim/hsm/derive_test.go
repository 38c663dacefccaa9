package hsm

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/keyward/keyward/internal/vectors"
)

// letterOf gives the scheme letter for a vector's algorithm and key length.
func letterOf(alg string, bytes int) string {
	if strings.HasPrefix(strings.ToUpper(alg), "SM4") {
		return "R"
	}
	return map[int]string{8: "Z", 16: "U", 24: "T"}[bytes]
}

func TestCheckValues(t *testing.T) {
	t.Parallel()
	d, c := vectorDevice(t)
	file := vectors.Load(t, "kcv.json")
	for _, group := range []string{"tdes_ecb_zero", "sm4_ecb_zero", "all_zero_key"} {
		for _, v := range file.Group(t, group) {
			key, want := vectors.Hex(t, v.In, "key"), vectors.Str(v.Out, "kcv")
			letter := letterOf(vectors.Str(v.In, "alg"), len(key))
			field, err := d.EncryptUnderLMK("001", letter, key)
			if err != nil {
				t.Fatal(err)
			}
			got := c.must("BU01" + fmt.Sprint(len(key)/8-1) + field)
			short := c.must("BU01" + fmt.Sprint(len(key)/8-1) + field + ";001")
			n := min(len(want), 16)
			same(t, v.ID, got[:n], want[:n])
			same(t, v.ID+" 6H", short[:min(n, 6)], want[:min(n, 6)])
		}
	}
	for _, group := range []string{"aes_ecb_zero", "aes_cmac_empty"} {
		t.Logf("kcv %s: %d rows skipped: not the check value of AES keys here", group, len(file.Group(t, group)))
	}
}

// derivedKey derives through KD and reads the clear result back with the device's own LMK.
func derivedKey(t *testing.T, d *Device, c *client, alg, mk, mode string, factors []string) (clear, kcv string) {
	t.Helper()
	letter := letterOf(alg, 16)
	answer := c.must(fmt.Sprintf("KD011%s80D%s%s%02X%s", sealed(t, d, typeRoot, letter, mk), letter, mode, len(factors), strings.Join(factors, "")))
	k, code := d.base.variant.open(typeTMK, rawKey{letter: answer[0], sealed: unhex(t, answer[1:33])})
	if code != codeOK {
		t.Fatal(code)
	}
	return upperHex(k.clear), answer[33:]
}

func TestDiversify(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{IgnoreParity: true}) // One row derives from the all-zero key.
	c := dial(t, d, "all")
	file := vectors.Load(t, "keyderiv.json")
	for group, alg := range map[string]string{"pboc_tdes": "TDES", "pboc_sm4": "SM4"} {
		for _, v := range file.Group(t, group) {
			var factors []string
			for _, f := range v.In["factors"].([]any) {
				factors = append(factors, f.(string))
			}
			clear, kcv := derivedKey(t, d, c, alg, vectors.Str(v.In, "mk"), "0", factors)
			if want := vectors.Str(v.Out, "key"); want != "" {
				same(t, v.ID, clear, want)
			}
			same(t, v.ID+" kcv", kcv[:len(vectors.Str(v.Out, "kcv"))], vectors.Str(v.Out, "kcv"))
			// The same again, a level at a time through intermediate root keys.
			letter := letterOf(alg, 16)
			step := sealed(t, d, typeRoot, letter, vectors.Str(v.In, "mk"))
			for _, f := range factors {
				step = c.must("KD011" + step + "011" + letter + "001" + f)[:33]
			}
			same(t, v.ID+" stepwise", c.must("BUFF1"+step+";011;000"), kcv)
		}
	}
	for _, v := range file.Group(t, "pboc_session") {
		alg, dk, want := vectors.Str(v.In, "alg"), vectors.Str(v.In, "dk"), vectors.Str(v.Out, "sk")
		if alg == "tdes_single" {
			// The session field of the S commands makes it: the zero block enciphered with it is its check value.
			key := sealed(t, d, typeDEK, "U", dk)
			got := c.must("S300" + typeDEK + key + "00" + "01" + vectors.Str(v.In, "input") + "05" + "0008" + strings.Repeat("\x00", 8))
			kcv, _ := CheckValue("DES", unhex(t, want))
			same(t, v.ID, upperHex([]byte(got[4:])), kcv)
			continue
		}
		atc := vectors.Hex(t, v.In, "atc")
		factor := "000000000000" + upperHex(atc) + "000000000000" + upperHex(inverted(atc))
		clear, _ := derivedKey(t, d, c, alg, dk, "1", []string{factor})
		same(t, v.ID, clear, want)
	}
}

func TestDiversifyRefusals(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{})
	c := dial(t, d, "all")
	const clear = "0123456789ABCDEFFEDCBA9876543210"
	root, sm := sealed(t, d, typeRoot, "U", clear), sealed(t, d, typeRoot, "R", clear)
	single := sealed(t, d, typeRoot, "Z", clear[:16])
	tmk := sealed(t, d, typeTMK, "U", clear)
	const factor = "0000000000000001"
	for name, row := range map[string]struct{ body, code string }{
		"into a data key":     {"KD011" + root + "00BU001" + factor, "29"},
		"into a ZMK":          {"KD011" + root + "000U001" + factor, "29"},
		"from a TMK":          {"KD80D" + tmk + "80DU001" + factor, "29"},
		"unknown type":        {"KD011" + root + "8ZZU001" + factor, "28"},
		"SM4 root, DES child": {"KD011" + sm + "80DU001" + factor, "27"},
		"DES root, SM4 child": {"KD011" + root + "80DR001" + factor, "27"},
		"single length":       {"KD011" + single + "80DU001" + factor, "27"},
		"no level":            {"KD011" + root + "80DU000", "15"},
		"nine levels":         {"KD011" + root + "80DU009" + strings.Repeat(factor, 9), "15"},
		"factor missing":      {"KD011" + root + "80DU002" + factor, "15"},
		"factor too many":     {"KD011" + root + "80DU001" + factor + factor, "15"},
		"factor not hex":      {"KD011" + root + "80DU001000000000000000G", "15"},
		"mode 2":              {"KD011" + root + "80DU201" + factor, "15"},
		"index key":           {"KD011K000180DU001" + factor, "12"},
	} {
		code, rest := c.ask(row.body)
		if code != row.code || rest != "" {
			t.Errorf("%s: code %s with %d characters, want %s and nothing", name, code, len(rest), row.code)
		}
	}
}

// TestWriteKey reproduces the WRITE KEY vectors of facts/psam.md §3.2.
func TestWriteKey(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{})
	c := dial(t, d, "all")
	const control, tmk, iv8 = "404142434445464748494A4B4C4D4E4F", "0123456789ABCDEFFEDCBA9876543210", "1122334400000000"
	for name, row := range map[string]struct{ letter, inner, key, header, mac, iv, apdu, want string }{
		"3DES": {"U", "U", tmk, "13220100", "03", iv8, "84D400001C", "0018AF2C76D7CF95F9001BED2C566AE2B13A1510E82C5FC282E65ADFF7A1"},
		"DES":  {"U", "Z", tmk[:16], "0B280101", "03", iv8, "84D4000014", "00100538AB9515B5A04F72828A2FC8809AC6F86BE58D"},
		"SM4": {"R", "R", tmk, "13624104", "01", iv8 + "0000000000000000", "84D4000024",
			"0020C7E204E5F1E5920880104522AA8F5A18FC488BAAB07B8B39865B89D58FAD0DF81DFE4E45"},
	} {
		for _, exported := range []string{typeTMK, typeControl} {
			body := "SH00309" + sealed(t, d, typeControl, row.letter, control) + exported + sealed(t, d, exported, row.inner, row.key) +
				"04" + row.header + "01" + row.mac + "04" + "01" + row.iv + "05" + row.apdu
			same(t, name, c.must(body), row.want)
		}
	}
}

func TestWriteKeyRefusals(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{})
	c := dial(t, d, "all")
	const clear = "0123456789ABCDEFFEDCBA9876543210"
	control, tmk := "309"+sealed(t, d, typeControl, "U", clear), "80D"+sealed(t, d, typeTMK, "U", clear)
	smTMK, root := "80D"+sealed(t, d, typeTMK, "R", clear), "011"+sealed(t, d, typeRoot, "U", clear)
	tpk, triple := "70D"+sealed(t, d, typeTPK, "U", clear), "80D"+sealed(t, d, typeTMK, "T", clear+clear[:16])
	const good = "0413220100" + "0103" + "04" + "01" + "1122334400000000" + "05" + "84D400001C"
	if len(c.must("SH00"+control+tmk+good)) != 4+48+8 {
		t.Error("the good request of the table does not pass")
	}
	for name, row := range map[string]struct{ body, code string }{
		"root exported":       {"SH00" + control + root + good, "29"},
		"root protects":       {"SH00" + root + tmk + good, "29"},
		"TMK protects":        {"SH00" + tmk + tmk + good, "29"},
		"TPK exported":        {"SH00" + control + tpk + good, "29"},
		"mixed algorithms":    {"SH00" + control + smTMK + good, "27"},
		"triple":              {"SH00" + control + triple + "041B" + good[4:], "27"},
		"LD wrong":            {"SH00" + control + tmk + "0414220100" + good[10:], "15"},
		"header of 5":         {"SH00" + control + tmk + "051322010000" + good[10:], "15"},
		"header of 0":         {"SH00" + control + tmk + "00" + good[10:], "15"},
		"CBC-MAC with 3DES":   {"SH00" + control + tmk + strings.Replace(good, "0103", "0101", 1), "27"},
		"MAC of 3 bytes":      {"SH00" + control + tmk + strings.Replace(good, "010304", "010303", 1), "15"},
		"MAC header too long": {"SH00" + control + tmk + good[:len(good)-12] + "11" + strings.Repeat("00", 17), "15"},
		"cut":                 {"SH00" + control + tmk + good[:len(good)-1], "15"},
	} {
		if code, rest := c.ask(row.body); code != row.code || rest != "" {
			t.Errorf("%s: code %s with %d characters, want %s and nothing", name, code, len(rest), row.code)
		}
	}
}

// TestRootKeysOnlyDerive tries a root key in every command that takes a key, under its own and under the type that shares
// its LMK variant.
func TestRootKeysOnlyDerive(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{})
	c := dial(t, d, "all")
	const clear, block = "0123456789ABCDEFFEDCBA9876543210", "00100000000000000000"
	zmk, dek := sealed(t, d, typeZMK, "U", clear), sealed(t, d, typeDEK, "U", clear)
	for _, keyType := range []string{typeRoot, "10A"} {
		k := keyType + sealed(t, d, typeRoot, "U", clear)
		for _, body := range []string{
			"M00011" + k + block, "M20011" + k + block, "M4000011" + k + "00B" + dek + block, "M4000011" + "00B" + dek + k + block,
			"M601010" + k + block, "M801010" + k + block + "00000000", "A8" + keyType + zmk + k[3:] + "X",
			"S0" + "0308" + k + "00" + "00" + "01" + "0000" + "0000000000000000", "S300" + k + "00" + "00" + "05" + "0008" + "12345678",
			"S400" + k + "00" + "00" + "05" + "0008" + "12345678",
			"S500" + k + "00" + "00" + "05" + "0000B" + dek + "000005" + "0008" + "12345678",
			"S500" + "00B" + dek + "00" + "00" + "05" + "00" + k + "000005" + "0008" + "12345678",
			"SH00309" + sealed(t, d, typeControl, "U", clear) + k + "0413220100" + "0103" + "04" + "01" + "1122334400000000" + "05" + "84D400001C",
			"A01" + keyType + "U;0" + zmk + "X",
		} {
			if code, rest := c.ask(body); code != "29" || rest != "" {
				t.Errorf("%s with a key of type %s: code %s, want 29", body[:2], keyType, code)
			}
		}
	}
	if code, _ := c.ask("A0010AU"); code != "29" {
		t.Errorf("A0 for 10A: code %s, want 29", code)
	}
	if slices.Contains(OnlineCommands(), "KD") || slices.Contains(OnlineCommands(), "SH") {
		t.Error("the online list derives or exports")
	}
}
