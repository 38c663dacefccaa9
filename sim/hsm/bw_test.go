package hsm

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keyward/keyward/internal/vectors"
)

func TestOldTestLMK(t *testing.T) {
	t.Parallel()
	l := newOldTestLMK()
	for _, v := range vectors.Load(t, "thales_lmk.json").Group(t, "old_test_lmk") {
		var number, second int
		fmt.Sscanf(vectors.Str(v.In, "pair"), "%d-%d", &number, &second)
		same(t, v.ID, upperHex(l.pairs[number/2]), vectors.Str(v.Out, "lmk"))
	}
}

func TestMigrateVectors(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{LegacyTypes: true, IgnoreParity: true, OldLMKs: map[string]string{"00": "test-old"}})
	c := dial(t, d, "all")
	for _, v := range vectors.Load(t, "thales_lmk.json").Group(t, "migrate") {
		old, keyType, scheme, want := vectors.Str(v.In, "old_key"), vectors.Str(v.In, "type"), vectors.Str(v.In, "new_scheme"), vectors.Str(v.Out, "new")
		short := "BW" + keyType[:1] + keyType[2:] + "1" + old
		same(t, v.ID, c.must("BWFF1" + old + ";" + keyType + ";0" + scheme + "0")[:33], want)
		same(t, v.ID+" short", c.must(short + ";0" + scheme + "1")[:33], want)
		if scheme == old[:1] {
			same(t, v.ID+" bare", c.must(short), want)
		}
	}
}

// TestBW moves keys of every algorithm and length to a key-block LMK, and from one key-block LMK to another: the check value stays.
func TestBW(t *testing.T) {
	t.Parallel()
	ports := []Port{{Name: "a", Addr: "127.0.0.1:0", Allow: AllCommands()}}
	old, err := New(Config{Ports: ports, LMKSeed: "old", BlockLMKSeed: "old"})
	if err != nil {
		t.Fatal(err)
	}
	present := startDevice(t, Config{OldLMKs: map[string]string{"00": "seed:old", "01": "keyblock:old"}})
	c := dial(t, present, "all")
	own := dial(t, startDevice(t, Config{}), "all") // 01 takes from 00 unless set otherwise.
	ownDevice := startDevice(t, Config{})
	triple := testClear + testClear[:16]
	for _, row := range []struct{ keyType, scheme, clear, flag, attributes string }{
		{typeZPK, "U", testClear, "1", "72T2B00N00"}, {typeTMK, "U", testClear, "1", "51T2B00S00"}, {typeTAK, "Z", testClear[:16], "0", "M1D1C00S00"},
		{typeZAK, "X", testClear, "1", "M3T2C00N00"}, {typeTDK, "R", testClear, "1", "2341B00S00"}, {typeRoot, "R", testClear, "1", "E741X00N00"},
		{typeZMK, "T", triple, "2", "52T3B00N00"}, {typeControl, "U", testClear, "1", "E1T2N00S00"}, {typeMKSMI, "U", testClear, "1", "E2T2N00N00"},
	} {
		was := sealed(t, old, row.keyType, row.scheme, row.clear)
		kcv, err := CheckValue(map[bool]string{true: "SM4", false: "DES"}[row.scheme == "R"], unhex(t, row.clear))
		if err != nil {
			t.Fatal(err)
		}
		out := c.must("BWFF" + row.flag + was + ";" + row.keyType + ";0" + row.scheme + "0")
		same(t, row.keyType, strings.TrimPrefix(out, "Z"), strings.TrimPrefix(sealed(t, present, row.keyType, row.scheme, row.clear), "Z")+kcv)

		mine := sealed(t, ownDevice, row.keyType, row.scheme, row.clear)
		out = own.must("BWFF" + row.flag + mine + ";" + row.keyType + ";0S1#" + row.attributes + "%01")
		block := out[:len(out)-6]
		same(t, row.keyType+" in a block", out[len(block):], kcv[:6])
		same(t, row.keyType+" works", own.must("BUFFF"+block+";FFF;000%01"), kcv)

		blockThere := blockKey(t, old, row.attributes, row.clear)
		out = c.must("BWFFF" + blockThere + ";FFF;0S0%01")
		same(t, row.keyType+" from a block", out[:1+headerChars], blockThere[:1+headerChars])
		same(t, row.keyType+" check value", c.must("BUFFF"+out[:len(out)-16]+";FFF;000%01"), kcv)
		same(t, row.keyType+" without a value", c.must("BWFFF" + blockThere + ";FFF%01")[:1+headerChars], blockThere[:1+headerChars])
	}
	u := sealed(t, ownDevice, typeTMK, "U", testClear)
	for name, row := range map[string]struct{ body, code string }{
		"use of another type":   {"BWFF1" + u + ";80D;0S0#72T2B00N00%01", "A6"},
		"other algorithm":       {"BWFF1" + u + ";80D;0S0#5141B00N00%01", "A7"},
		"other length":          {"BWFF1" + u + ";80D;0S0#51T3B00N00%01", "A5"},
		"no attributes":         {"BWFF1" + u + ";80D;0S0%01", "15"},
		"variant scheme":        {"BWFF1" + u + ";80D;0U0#51T2B00N00%01", "26"},
		"another type":          {"BWFF1" + u + ";003;0S0#M1T2C00N00%01", "10"},
		"type 10A":              {"BWFF1" + u + ";10A;0S0#E7T2X00N00%01", "29"},
		"wrong length flag":     {"BWFF0" + u + ";80D;0S0#51T2B00N00%01", "05"},
		"block flag, no block":  {"BWFFF" + u + ";80D;0S0#51T2B00N00%01", "05"},
		"no old LMK":            {"BWFF1" + u + ";80D;0U0", "33"},
		"block to a variant":    {"BWFFF" + blockKey(t, ownDevice, "72T2B00N00", testClear) + ";FFF;0U0", "33"},
		"block, variant as old": {"BWFFF" + blockKey(t, ownDevice, "72T2B00N00", testClear) + ";FFF;0S0%01", "A1"},
		"unknown LMK":           {"BWFF1" + u + ";80D;0U0%07", "13"},
	} {
		if code, rest := own.ask(row.body); code != row.code || rest != "" {
			t.Errorf("%s: code %s with %d characters, want %s", name, code, len(rest), row.code)
		}
	}
	c.wantCode("BWFFF"+blockKey(t, old, "72T2B00N00", testClear)+";FFF;0U0", "A1") // To a variant LMK, which has another as old.
	c.wantCode("BWFFF"+blockKey(t, old, "72T2B00N00", testClear)+";FFF;0S0#72T2B00N00%01", "15")
	c.wantCode("BWFFF"+blockKey(t, present, "72T2B00N00", testClear)+";FFF;0S0%01", "A4")
	c.wantCode("BWFF1"+sealed(t, old, typeTMK, "U", testClear)+";80D;0S0#51T2B00N00%01", "A1")
	for name, old := range map[string]map[string]string{"id": {"02": "00"}, "source": {"00": "file:x"}} {
		if _, err := New(Config{Ports: ports, OldLMKs: old}); err == nil {
			t.Errorf("old LMK of an unknown %s is accepted", name)
		}
	}
}
