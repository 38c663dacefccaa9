package hsm

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/keyward/keyward/internal/vectors"
)

// Groups of thales_lmk.json that no test here runs, with the reason.
var skippedLMKGroups = map[string]string{
	"components":   "needs A4, GG or GY",
	"dukpt_to_zpk": "needs CI",
	"pvv_cvv":      "needs DG, DC, EC or CW",
}

func TestVectorsSkippedAreNamed(t *testing.T) {
	t.Parallel()
	file := vectors.Load(t, "thales_lmk.json")
	for group, reason := range skippedLMKGroups {
		t.Logf("thales_lmk %s: %d rows skipped: %s", group, len(file.Group(t, group)), reason)
	}
}

func TestTestLMK(t *testing.T) {
	t.Parallel()
	l := newLMK("")
	for _, v := range vectors.Load(t, "thales_lmk.json").Group(t, "test_lmk") {
		var number, second int
		fmt.Sscanf(vectors.Str(v.In, "pair"), "%d-%d", &number, &second)
		pair := l.pairs[number/2]
		same(t, v.ID, upperHex(pair), vectors.Str(v.Out, "lmk"))
		kcv, err := CheckValue("DES", pair)
		if err != nil {
			t.Fatal(err)
		}
		same(t, v.ID+" kcv", kcv[:6], vectors.Str(v.Out, "kcv"))
	}
}

func TestVariants(t *testing.T) {
	t.Parallel()
	for _, v := range vectors.Load(t, "thales_lmk.json").Group(t, "variants") {
		i, got := vectors.Int(v.In, "index", 0), byte(0)
		switch vectors.Str(v.In, "kind") {
		case "key type":
			got = variantBytes[i]
		case "double":
			got = schemes['U'].variants[i-1]
		case "triple":
			got = schemes['T'].variants[i-1]
		case "worked":
			out := sealKey(lmkWrapper{newLMK(""), lmkPlace{14, 2}}, schemes['U'], vectors.Hex(t, v.In, "data"))
			same(t, v.ID, upperHex(out), vectors.Str(v.Out, "u_encrypted"))
			continue
		}
		same(t, v.ID, fmt.Sprintf("%02X", got), vectors.Str(v.Out, "xor"))
	}
}

func TestKeyTypes(t *testing.T) {
	t.Parallel()
	d, c := vectorDevice(t)
	const clear = "0123456789ABCDEFFEDCBA9876543210"
	for _, v := range vectors.Load(t, "thales_lmk.json").Group(t, "key_types") {
		code := vectors.Str(v.In, "code")
		var number, second int
		fmt.Sscanf(vectors.Str(v.Out, "pair"), "%d-%d", &number, &second)
		place, ok := placeOf(code)
		if want := (lmkPlace{number / 2, vectors.Int(v.Out, "variant", -1)}); !ok || place != want {
			t.Errorf("%s: type %s at %v %v, want %v", v.ID, code, place, ok, want)
		}
		same(t, v.ID, c.must("BUFF1"+sealed(t, d, code, "U", clear)+";"+code+";000"), "08D7B4FB629D0885")
		if code[1] == '0' {
			same(t, v.ID+" short", c.must("BU"+code[:1]+code[2:]+"1"+sealed(t, d, code, "U", clear)), "08D7B4FB629D0885")
		}
	}
}

func TestKeysUnderLMK(t *testing.T) {
	t.Parallel()
	d, c := vectorDevice(t)
	for _, v := range vectors.Load(t, "thales_lmk.json").Group(t, "keys_under_lmk") {
		field, keyType, kcv := vectors.Str(v.In, "key"), vectors.Str(v.In, "type"), vectors.Str(v.Out, "kcv")
		clear := vectors.Hex(t, v.Out, "clear")
		flag, letter := fmt.Sprint(len(clear)/8-1), field[:1]
		if len(field)%16 == 0 {
			letter = map[int]string{16: "Z", 32: "X", 48: "Y"}[len(field)] // No letter: read like ECB.
		}
		tail := ";000"
		if len(kcv) == 6 {
			tail = ";001"
		}
		same(t, v.ID, c.must("BUFF"+flag+field+";"+keyType+tail), kcv)
		got, err := d.EncryptUnderLMK(keyType, letter, clear)
		if err != nil {
			t.Fatal(err)
		}
		same(t, v.ID+" sealed", strings.TrimPrefix(got, letter), strings.TrimPrefix(field, letter))
	}
}

func TestKeyExchange(t *testing.T) {
	t.Parallel()
	_, c := vectorDevice(t)
	for _, v := range vectors.Load(t, "thales_lmk.json").Group(t, "key_exchange") {
		zmk, outer, keyType := vectors.Str(v.In, "zmk_under_lmk"), vectors.Str(v.In, "key_under_zmk"), vectors.Str(v.In, "type")
		local, kcv, command := vectors.Str(v.Out, "key_under_lmk"), vectors.Str(v.Out, "kcv"), vectors.Str(v.In, "command")
		scheme := map[bool]string{true: "Z", false: local[:1]}[len(local) == 16]
		// FC, FK, FM, AW and AU differ from A6 and A8 in their fields only, so their rows run through A6 and A8.
		same(t, v.ID+" A6", c.must("A6"+keyType+zmk+outer+scheme), local+kcv)
		if len(zmk) > 16 || len(outer) == 16 {
			outerScheme := map[bool]string{true: "Z", false: outer[:1]}[len(outer) == 16]
			same(t, v.ID+" A8", c.must("A8"+keyType+zmk+local+outerScheme), outer+kcv)
		}
		if strings.Contains(command, "FA") {
			same(t, v.ID+" FA", c.must("FA"+zmk+outer), local+"73936E441E46819D")
			same(t, v.ID+" FA 6", c.must("FA"+zmk+outer+";0Z1"), local+kcv)
			same(t, v.ID+" GC", c.must("GC"+zmk+local+";Z01"), outer+kcv)
		}
	}
	// facts/hsm.md §2.4.
	same(t, "A8", c.must("A8002U1457FF6ADF6250C66C368416B4C9D383U8463435FC4B4DAA0C49025272C29B12CU"), "U2C62A23D001B97412950CD8BE66C7639070753")
}

func TestPINVectors(t *testing.T) {
	t.Parallel()
	_, c := vectorDevice(t)
	rows := vectors.Load(t, "thales_lmk.json").Group(t, "pin")
	for _, from := range rows {
		for _, to := range rows {
			if vectors.Str(to.In, "type") != typeZPK || vectors.Str(from.In, "pan12") != vectors.Str(to.In, "pan12") {
				continue
			}
			command := map[string]string{typePVK: "CA", typeZPK: "CC"}[vectors.Str(from.In, "type")]
			body := command + vectors.Str(from.In, "key") + vectors.Str(to.In, "key") + "12" + vectors.Str(from.Out, "block") +
				vectors.Str(from.In, "format") + vectors.Str(to.In, "format") + vectors.Str(from.In, "pan12")
			same(t, from.ID+" to "+to.ID, c.must(body), "04"+vectors.Str(to.Out, "block")+vectors.Str(to.In, "format"))
		}
	}
}

func TestMACAndEchoVectors(t *testing.T) {
	t.Parallel()
	_, c := vectorDevice(t)
	file := vectors.Load(t, "thales_lmk.json")
	for _, v := range file.Group(t, "mac") {
		key, msg := vectors.Str(v.In, "tak"), vectors.Hex(t, v.In, "msg")
		algorithm := "3"
		if len(key) == 16 {
			algorithm = "1" // MA is X9.9 with zero padding.
		}
		body := "M6000" + algorithm + fmt.Sprint(vectors.Int(v.In, "pad", 1)) + vectors.Str(v.In, "type") + key + fmt.Sprintf("%04X", len(msg)) + string(msg)
		same(t, v.ID, c.must(body), vectors.Str(v.Out, "mac"))
	}
	for _, v := range file.Group(t, "random_commands") {
		code, rest := c.ask(vectors.Str(v.In, "command") + vectors.Str(v.In, "body"))
		if want := vectors.Str(v.Out, "error"); want != "" {
			same(t, v.ID, code, want)
			continue
		}
		same(t, v.ID, "B3"+code+rest, vectors.Str(v.Out, "response"))
	}
}

func TestLMKCheckValue(t *testing.T) {
	t.Parallel()
	d, c := vectorDevice(t)
	same(t, "NC", c.must("NC"), "26860474449124220001-0900")
	same(t, "NO 00", c.must("NO00"), "31640001-090000000")
	same(t, "NO 01", c.must("NO01"), "0")
	if got := c.must("N0024"); len(got) != 24 {
		t.Errorf("N0: %d bytes, want 24", len(got))
	}
	other := dial(t, startDevice(t, Config{LMKSeed: "other"}), "all")
	check := other.must("NC")[:16]
	if check == testLMKCheck || check != newLMK("other").check || check == newLMK("third").check {
		t.Errorf("another LMK answers check value %s", check)
	}
	if err := d.SetFaults(Faults{LMKSeed: "other"}); err != nil {
		t.Fatal(err)
	}
	same(t, "NC with changed LMK", c.must("NC")[:16], check)
	if bytes.Equal(newLMK("a").pairs[0], newLMK("b").pairs[0]) {
		t.Error("two seeds give one LMK")
	}
}
