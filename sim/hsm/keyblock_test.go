package hsm

import (
	"strings"
	"testing"
)

const testClear = "0123456789ABCDEFFEDCBA9876543210"

// turned is another hex digit.
func turned(c byte) byte { return upperHex([]byte{byte(hexValue(c)) ^ 1})[1] }

func TestLMKIDs(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{})
	c := dial(t, d, "all")
	const check = "DB3FB663EE8D2B66" // CMAC of a zero block under the public test value, computed with another library.
	same(t, "id 00", c.must("NC%00")[:16], testLMKCheck)
	same(t, "default", c.must("NC")[:16], testLMKCheck)
	same(t, "id 01", c.must("NC%01\x19T"), check+"0001-0900\x19T")
	c.wantCode("NC%02", "13")
	c.wantCode("NC%0", "15")
	c.wantCode("NC%01%01", "15")
	c.wantCode("NC#72T2N00N00%01", "15")
	setFaults(t, d, Faults{LMKSeed: "other"})
	if c.must("NC%01")[:16] == check {
		t.Error("another LMK answers the same check value")
	}
	other := dial(t, startDevice(t, Config{DefaultLMK: "01", BlockLMKSeed: "x"}), "all")
	if got := other.must("NC")[:16]; got == check || got == testLMKCheck {
		t.Errorf("key-block LMK of a seed answers %s", got)
	}
}

// TestKeyBlockForm makes keys of every algorithm and looks at the blocks.
func TestKeyBlockForm(t *testing.T) {
	t.Parallel()
	c := dial(t, startDevice(t, Config{}), "all")
	for attributes, want := range map[string]string{
		"72T2N00N00": "10112" + "72TN00N0001", "M3T3C07E00": "10112" + "M3TC07E0001", "22D1B00S00": "10112" + "22DB00S0001", "5141B99S00": "10112" + "514B99S0001",
		"M6A1G00N00": "10112" + "M6AG00N0001", "21A2D00N00": "10112" + "21AD00N0001", "52A3E00N00": "10144" + "52AE00N0001",
	} {
		for _, body := range []string{"A00FFFS#" + attributes + "%01", "A00FFFS%01#" + attributes} {
			out := c.must(body)
			n := len(out) - 6
			same(t, attributes, out[:1+headerChars], "S"+want)
			same(t, attributes+" length", out[2:6], want[1:5])
			same(t, attributes+" check value", c.must("BUFFF"+out[:n]+";FFF;001%01"), out[n:])
		}
		if first, second := c.must("KRFFFS#"+attributes+"%01"), c.must("KRFFFS#"+attributes+"%01"); first == second {
			t.Errorf("%s: the same key twice", attributes)
		}
	}
}

// TestKeyBlockWork does the same work with the same clear keys under both LMKs: the results are the same.
func TestKeyBlockWork(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{})
	c := dial(t, d, "all")
	v := func(keyType, scheme string) string { return sealed(t, d, keyType, scheme, testClear) }
	b := func(attributes string) string { return blockKey(t, d, attributes, testClear) }
	pin := upperHex(ecbEncrypt(desBlock(unhex(t, testClear)), unhex(t, "041261FFFFFDACDE")))
	wide, code := sealPIN(newKey(algSM4, unhex(t, testClear)), pinWide, []byte("1261"), account{twelve: []byte("550000025321")})
	if code != codeOK {
		t.Fatal(code)
	}
	const pan, iv = "550000025321", "1122334400000000"
	for name, row := range map[string][2]string{
		"CA":     {"CA" + v(typeTPK, "U") + v(typeZPK, "U") + "12" + pin + "0103" + pan, "CA" + b("71T2D00N00") + b("72T2E00N00") + "12" + pin + "0103" + pan},
		"CC":     {"CC" + v(typeZPK, "U") + v(typeZPK, "U") + "12" + pin + "0101" + pan, "CC" + b("72T2B00N00") + b("72T2B00N00") + "12" + pin + "0101" + pan},
		"TI":     {"TI1" + v(typeTPK, "R") + "2" + v(typeZPK, "U") + "12" + upperHex(wide) + "91" + pan + "01" + pan, "TI1" + b("7141B00N00") + "2" + b("72T2B00N00") + "12" + upperHex(wide) + "91" + pan + "01" + pan},
		"M2":     {"M2000130B" + v(typeTDK, "U") + "000812345678", "M20001FFF" + b("23T2D00N00") + "000812345678"},
		"M4":     {"M400010130B" + v(typeTDK, "U") + "00A" + v(typeZEK, "U") + iv + "000812345678", "M4000101FFF" + b("23T2D00N00") + "FFF" + b("22T2E00N00") + iv + "000812345678"},
		"M6":     {"M600111003" + v(typeTAK, "U") + "0003abc", "M600111FFF" + b("M1T2G00N00") + "0003abc"},
		"M6 M0":  {"M600111003" + v(typeTAK, "U") + "0003abc", "M600111FFF" + b("M0T2C00N00") + "0003abc"},
		"M6 X9":  {"M600131008" + v(typeZAK, "U") + "0003abc", "M600131FFF" + b("M3T2N00N00") + "0003abc"},
		"S0 SM4": {"S00110008" + v(typeZAK, "R") + "0000010003abc" + iv + iv, "S00110FFF" + b("M141C00N00") + "0000010003abc" + iv + iv},
		"S0 SMI": {"S00304209" + v(typeMKSMI, "U") + "01" + iv + "00010003abc" + iv, "S00304FFF" + b("E2T2X00N00") + "01" + iv + "00010003abc" + iv},
		"S3":     {"S30000B" + v(typeDEK, "U") + "0000040003abc", "S300FFF" + b("21T2E00N00") + "0000040003abc"},
		"S4":     {"S40000B" + v(typeDEK, "R") + "000005001012345678abcdefgh", "S400FFF" + b("2141D00N00") + "000005001012345678abcdefgh"},
		"S5":     {"S50000B" + v(typeDEK, "U") + "0000050000A" + v(typeZEK, "U") + "000004000812345678", "S500FFF" + b("21T2D00N00") + "00000500FFF" + b("22T2E00N00") + "000004000812345678"},
		"SH": {
			"SH00309" + v(typeControl, "U") + "80D" + v(typeTMK, "U") + "04132201000103040111223344000000000584D400001C",
			"SH00FFF" + b("E1T2N00N00") + "FFF" + b("51T2B00S00") + "04132201000103040111223344000000000584D400001C",
		},
	} {
		same(t, name, c.must(row[1]+"%01"), c.must(row[0]))
	}
	mac := c.must("M600111FFF" + b("M1T2G00N00") + "0003abc%01")
	same(t, "M8", c.must("M800111FFF"+b("M1T2V00N00")+"0003abc"+mac+"%01"), "")
	// KD: the child has the same check value, and only its own use.
	child := c.must("KDFFF" + b("E7T2X00N00") + "FFFS0010000000000000001#51T2B00S00%01")
	same(t, "KD", child[len(child)-16:], c.must("KD011" + v(typeRoot, "U") + "80DU0010000000000000001")[33:])
	same(t, "KD header", child[:1+headerChars], "S1011251TB00S0001")
	sm := c.must("KDFFF" + b("E741X00N00") + "FFFS0010000000000000001#E141N00N00%01")
	same(t, "KD SM4", sm[len(sm)-16:], c.must("KD011" + v(typeRoot, "R") + "309R0010000000000000001")[33:])
}

// TestKeyBlockWorkingKeys follows a sign-on with A0: what the terminal gets and what the host keeps are the same key.
func TestKeyBlockWorkingKeys(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{Ports: []Port{{Name: "online", Addr: "127.0.0.1:0", Allow: OnlineCommands()}}, DefaultLMK: "01"})
	c := dial(t, d, "online")
	const derived = "D4146FE0C6C8D651FD501CD4376E71F7" // A derived key: its parity is not odd.
	for _, row := range []struct{ tmk, scheme, attributes string }{
		{"51T2B00S00", "X", "71T2B00S00"}, {"51T2E00S00", "U", "M1T2C00S00"}, {"51T2N00S00", "Z", "23D1B00S00"}, {"51T3B00S00", "Y", "23T3B00S00"},
		{"5141B00S00", "R", "7141B00S00"}, {"5141B00S00", "R", "M141C00S00"}, {"5141B00S00", "R", "2341B00S00"},
	} {
		clear := derived
		if row.tmk[3] == '3' {
			clear += derived[:16]
		}
		out := c.must("A01FFFS;1" + blockKey(t, d, row.tmk, clear) + row.scheme + "#" + row.attributes)
		block, outer := out[:113], out[113:len(out)-6]
		f := fields{buf: []byte(outer)}
		raw := f.key()
		alg := algorithms[row.tmk[2]]
		k, code := importUnder(newKey(alg, unhex(t, clear)), raw)
		if f.code != "" || code != codeOK || f.pos != len(outer) {
			t.Fatalf("%s: the key for the terminal does not open: %s %s", row.attributes, f.code, code)
		}
		same(t, row.attributes, k.checkValue()[:6], out[len(out)-6:])
		same(t, row.attributes+" kept", c.must("BUFFF"+block+";FFF;001"), out[len(out)-6:])
		if alg == algDES && !oddParity(k.clear) {
			t.Errorf("%s: parity is not odd", row.attributes)
		}
	}
}

// TestKeyBlockExchange carries keys out under a ZMK and in again, in every form.
func TestKeyBlockExchange(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{DefaultLMK: "01"})
	c := dial(t, d, "all")
	long := testClear + testClear
	for _, row := range []struct{ zmk, clear, scheme, attributes string }{
		{"52T2B00N00", testClear, "X", "72T2B00S00"}, {"52T2B00N00", testClear, "U", "M3T2C00S00"}, {"52T3B00N00", testClear + testClear[:16], "T", "M1T3C00S00"},
		{"5241B00N00", testClear, "R", "7141B00S00"}, {"52T2B00N00", testClear, "R", "71T2B00E00"}, {"52T3N00N00", testClear + testClear[:16], "R", "72T2N00S00"},
		{"52A3B00N00", long, "R", "M6A1C00E00"}, {"52A1B00N00", testClear, "R", "23T2B00S00"}, {"52A2B00N00", testClear + testClear[:16], "R", "51A3B00E00"},
	} {
		name := row.zmk + " " + row.scheme + " " + row.attributes
		zmk := blockKey(t, d, row.zmk, row.clear)
		out := c.must("A01FFFS;0" + zmk + row.scheme + "#" + row.attributes)
		size := 113
		if row.attributes[2:4] == "A3" {
			size = 145
		}
		block, outer, kcv := out[:size], out[size:len(out)-6], out[len(out)-6:]
		in := c.must("A6FFF" + zmk + outer + "S#" + row.attributes)
		same(t, name+" in", in[:1+headerChars]+in[len(in)-6:], block[:1+headerChars]+kcv)
		same(t, name+" check", c.must("BUFFF"+in[:len(in)-6]+";FFF;001"), kcv)
		again := c.must("A8FFF" + zmk + block + row.scheme)
		same(t, name+" out", again[len(again)-6:], kcv)
		if row.scheme != "R" || row.zmk[2] == '4' {
			same(t, name+" the same", again[:len(again)-6], outer)
			continue
		}
		// A TR-31 block names the general use, and comes in as it says unless the request narrows it.
		general := map[byte]string{'7': "P0", '2': "D0", '5': "K0", 'M': row.attributes[:2]}[row.attributes[0]]
		same(t, name+" use", outer[6:8], general)
		plain := c.must("A6FFF" + zmk + outer + "S")
		same(t, name+" as it says", plain[6:8], general)
		c.wantCode("A6FFF"+zmk+outer+"S#E2T2N00N00", "A6")
		// Mode, version and exportability stay as the sender wrote them.
		same(t, name+" not widened", c.must("A6FFF" + zmk + outer + "S#" + row.attributes[:5] + "99S00")[:1+headerChars], block[:1+headerChars])
		c.wantCode("A6FFF"+zmk+outer+"S#"+row.attributes[:2]+"D1"+row.attributes[4:5]+"00S00", "A7")
		changed := []byte(outer)
		changed[len(changed)-1] = turned(changed[len(changed)-1])
		c.wantCode("A6FFF"+zmk+string(changed)+"S", "A4")
	}
	// Parity is corrected as elsewhere.
	zmk := blockKey(t, d, "52T2B00N00", testClear)
	even := upperHex(ecbEncrypt(desBlock(unhex(t, testClear)), unhex(t, "00112233445566778899AABBCCDDEEFF")))
	c.wantCode("A6FFF"+zmk+"X"+even+"S#72T2B00N00", "01")
	c.wantCode("A6FFF"+zmk+"X"+even+"S#51T2B00N00", "00")
}

func TestKeyBlockRefusals(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{})
	c := dial(t, d, "all")
	v := func(keyType string) string { return sealed(t, d, keyType, "U", testClear) }
	b := func(attributes string) string { return blockKey(t, d, attributes, testClear) }
	zpk, tpk, tmk, zmk := b("72T2B00N00"), b("71T2B00S00"), b("51T2B00S00"), b("52T2B00N00")
	root, control := b("E7T2X00N00"), b("E1T2N00N00")
	pin := "12" + upperHex(ecbEncrypt(desBlock(unhex(t, testClear)), unhex(t, "041261FFFFFDACDE"))) + "0101550000025321"
	other, err := New(Config{Ports: []Port{{Name: "a"}}, BlockLMKSeed: "other"})
	if err != nil {
		t.Fatal(err)
	}
	foreign := blockKey(t, other, "72T2B00N00", testClear)
	changed := func(at int, to byte) string {
		x := []byte(zpk)
		x[at] = to
		return string(x)
	}
	tail := "04132201000103040111223344000000000584D400001C"
	for name, row := range map[string]struct{ body, code string }{
		"whole":                      {"CA" + tpk + zpk + pin, "00"},
		"ZPK as TPK":                 {"CA" + zpk + zpk + pin, "A6"},
		"TPK as ZPK":                 {"CA" + tpk + tpk + pin, "A6"},
		"MAC key as TPK":             {"CA" + b("M1T2N00N00") + zpk + pin, "A6"},
		"encipher only":              {"CA" + b("71T2E00N00") + zpk + pin, "A8"},
		"decipher only":              {"CA" + tpk + b("72T2D00N00") + pin, "A8"},
		"SM4 key in a 3DES block":    {"CA" + b("7141B00N00") + zpk + pin, "A7"},
		"variant key":                {"CA" + v(typeTPK) + zpk + pin, "A1"},
		"key of another LMK":         {"CA" + tpk + foreign + pin, "A4"},
		"changed use":                {"CA" + tpk + changed(7, '1') + pin, "A4"},
		"changed exportability":      {"CA" + tpk + changed(12, 'S') + pin, "A4"},
		"changed cipher":             {"CA" + tpk + changed(40, turned(zpk[40])) + pin, "A4"},
		"changed MAC":                {"CA" + tpk + changed(112, turned(zpk[112])) + pin, "A4"},
		"changed LMK id":             {"CA" + tpk + changed(16, '2') + pin, "A3"},
		"optional blocks":            {"CA" + tpk + changed(14, '1') + pin, "AB"},
		"version":                    {"CA" + tpk + changed(1, 'D') + pin, "83"},
		"length":                     {"CA" + tpk + changed(4, 'x') + pin, "83"},
		"not hex":                    {"CA" + tpk + changed(50, 'x') + pin, "83"},
		"algorithm letter":           {"CA" + tpk + changed(8, 'Q') + pin, "83"},
		"HA":                         {"HA" + tmk + ";XU0", "A1"},
		"HC":                         {"HC" + tmk + ";XU0", "A1"},
		"FA":                         {"FA" + zmk + "X" + testClear, "A1"},
		"GC":                         {"GC" + zmk + zpk, "A1"},
		"MAC with the other method":  {"M600131FFF" + b("M1T2C00N00") + "0003abc", "A6"},
		"verify with a key for MACs": {"M800011FFF" + b("M1T2G00N00") + "0003abc12345678", "A8"},
		"MAC with a key to verify":   {"M600011FFF" + b("M1T2V00N00") + "0003abc", "A8"},
		"type of a variant LMK":      {"M600011003" + b("M1T2G00N00") + "0003abc", "28"},
		"data with a PIN key":        {"M20000FFF" + tpk + "000812345678", "A6"},
		"encipher with D":            {"M00000FFF" + b("23T2D00N00") + "000812345678", "A8"},
		"variant scheme":             {"A00FFFU#72T2N00N00", "26"},
		"no attributes":              {"A00FFFS", "15"},
		"A0 with a variant type":     {"A00001S#72T2N00N00", "28"},
		"unknown use":                {"A00FFFS#ZZT2N00N00", "A6"},
		"generic use":                {"A00FFFS#P0T2N00N00", "A6"},
		"unknown algorithm":          {"A00FFFS#72Q2N00N00", "A7"},
		"algorithm of another use":   {"A00FFFS#M3A1C00N00", "A7"},
		"mode of another use":        {"A00FFFS#72T2C00N00", "A8"},
		"version not digits":         {"A00FFFS#72T2BXXN00", "A9"},
		"unknown exportability":      {"A00FFFS#72T2B00Q00", "AA"},
		"ZMK that may leave":         {"A00FFFS#52T2B00S00", "AA"},
		"root that may leave":        {"KRFFFS#E7T2X00E00", "AA"},
		"two optional blocks":        {"A00FFFS#72T2B00N02", "AB"},
		"not exportable, plain":      {"A01FFFS;1" + tmk + "X#71T2B00N00", "AA"},
		"block only, plain":          {"A01FFFS;1" + tmk + "X#71T2B00E00", "AA"},
		"not exportable, TR-31":      {"A01FFFS;0" + zmk + "R#71T2B00N00", "AA"},
		"ZPK for a terminal":         {"A01FFFS;1" + tmk + "X#72T2B00S00", "A6"},
		"under a TPK":                {"A01FFFS;1" + tpk + "X#71T2B00S00", "A6"},
		"under a TMK to decipher":    {"A01FFFS;1" + b("51T2D00S00") + "X#71T2B00S00", "A8"},
		"ZMK under a ZMK":            {"A01FFFS;0" + zmk + "X#52T2B00N00", "A6"},
		"A8 of what stays":           {"A8FFF" + zmk + zpk + "X", "AA"},
		"A8 of a root key":           {"A8FFF" + zmk + root + "X", "AA"},
		"A8 of a ZMK":                {"A8FFF" + zmk + zmk + "R", "AA"},
		"A6 without attributes":      {"A6FFF" + zmk + "X" + testClear + "S", "15"},
		"A6 SM4 under 3DES":          {"A6FFF" + zmk + testClear[:16] + "S#7241B00N00", "A7"},
		"A6 other length":            {"A6FFF" + zmk + "X" + testClear + "S#51T3B00N00", "A5"},
		"A6 variant scheme":          {"A6FFF" + zmk + "X" + testClear + "U#72T2B00N00", "26"},
		"A6 variant type":            {"A6001" + zmk + "X" + testClear + "S#72T2B00N00", "28"},
		"TR-31 under a single key":   {"A01FFFS;0" + blockKey(t, d, "52D1B00N00", testClear[:16]) + "R#72T2B00S00", "BB"},
		"KD with a TMK":              {"KDFFF" + tmk + "FFFS0010000000000000001#51T2B00S00", "A6"},
		"KD of a ZPK":                {"KDFFF" + root + "FFFS0010000000000000001#72T2B00S00", "A6"},
		"KD to another algorithm":    {"KDFFF" + root + "FFFS0010000000000000001#5141B00S00", "A7"},
		"KD to another length":       {"KDFFF" + root + "FFFS0010000000000000001#51T3B00S00", "A5"},
		"encipher with a root key":   {"M00000FFF" + root + "000812345678", "A6"},
		"SH of what stays":           {"SH00FFF" + control + "FFF" + b("51T2B00N00") + tail, "AA"},
		"SH of a ZPK":                {"SH00FFF" + control + "FFF" + zpk + tail, "A6"},
		"SH under a TMK":             {"SH00FFF" + tmk + "FFF" + tmk + tail, "A6"},
		"SH under a key to derive":   {"SH00FFF" + b("E1T2X00N00") + "FFF" + tmk + tail, "A8"},
		"BU with a length":           {"BUFF1" + zpk + ";FFF;000", "05"},
		"BU with another type":       {"BUFFF" + zpk + ";001;000", "28"},
		"store suffix where none is": {"A00FFFS#72T2N00N00K000100", "15"},
	} {
		if code, rest := c.ask(row.body + "%01"); code != row.code || code != "00" && rest != "" {
			t.Errorf("%s: code %s with %d characters, want %s", name, code, len(rest), row.code)
		}
	}
	for name, row := range map[string]struct{ body, code string }{
		"block under a variant LMK":      {"CA" + v(typeTPK) + zpk + pin, "A1"},
		"FFF under a variant LMK":        {"M20000FFF" + v(typeTDK) + "000812345678", "28"},
		"S under a variant LMK":          {"A00001S", "26"},
		"attributes under a variant LMK": {"A00001U#72T2N00N00", "15"},
		"attributes too short":           {"A00FFFS#72T2B00N", "15"},
		"A6 S under a variant LMK":       {"A6001" + v(typeZMK) + "X" + testClear + "S", "26"},
		"KD FFF under a variant LMK":     {"KD011" + v(typeRoot) + "FFFU0010000000000000001", "28"},
	} {
		if code, rest := c.ask(row.body); code != row.code || rest != "" {
			t.Errorf("%s: code %s with %d characters, want %s", name, code, len(rest), row.code)
		}
	}
}

// TestKeyBlockOnline: what the list of an online port allows under a key-block LMK.
func TestKeyBlockOnline(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{DefaultLMK: "01", Ports: []Port{{Name: "online", Addr: "127.0.0.1:0", Allow: OnlineCommands()}}})
	c := dial(t, d, "online")
	b := func(attributes string) string { return blockKey(t, d, attributes, testClear) }
	tmk, zmk := b("51T2B00S00"), b("52T2B00N00")
	for name, row := range map[string]struct{ body, code string }{
		"decrypt a track":         {"M20000FFF" + b("23T2B00N00") + "000812345678", "00"},
		"decrypt other data":      {"M20000FFF" + b("21T2B00N00") + "000812345678", "29"},
		"translate a track":       {"M4000000FFF" + b("23T2B00N00") + "FFF" + b("22T2B00N00") + "000812345678", "00"},
		"translate other data":    {"M4000000FFF" + b("22T2B00N00") + "FFF" + b("23T2B00N00") + "000812345678", "29"},
		"PIN key for a terminal":  {"A01FFFS;1" + tmk + "X#71T2B00S00", "00"},
		"other key":               {"A01FFFS;1" + tmk + "X#72T2B00S00", "A6"},
		"key for a zone":          {"A01FFFS;0" + zmk + "X#71T2B00S00", "29"},
		"key that is not for one": {"A00FFFS#71T2B00S00", "29"},
		"card MAC":                {"S00304FFF" + b("E2T2N00N00") + "0000010003abc" + testClear[:16], "29"},
		"MAC":                     {"S00304FFF" + b("M3T2N00N00") + "0000010003abc" + testClear[:16], "00"},
	} {
		if code, rest := c.ask(row.body); code != row.code || code != "00" && rest != "" {
			t.Errorf("%s: code %s with %d characters, want %s", name, code, len(rest), row.code)
		}
	}
}

func TestBlockCeremonyRefusals(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{})
	chinese := startDevice(t, Config{Set: setSJJ1310})
	good := unhex(t, testClear)
	for name, err := range map[string]error{
		"no attributes":      second(d.EncryptInKeyBlock("", good)),
		"unknown use":        second(d.EncryptInKeyBlock("ZZT2B00N00", good)),
		"other length":       second(d.EncryptInKeyBlock("72T3B00N00", good)),
		"even parity":        second(d.EncryptInKeyBlock("72T2B00N00", unhex(t, "00112233445566778899AABBCCDDEEFF"))),
		"zeros":              second(d.EncryptInKeyBlock("51T2B00N00", make([]byte, 16))),
		"no key-block LMK":   second(chinese.EncryptInKeyBlock("72T2B00N00", good)),
		"mode that does not": second(d.EncryptInKeyBlock("72T2C00N00", good)),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		} else if strings.Contains(strings.ToUpper(err.Error()), "01234567") {
			t.Errorf("%s: the error shows the key", name)
		}
	}
	// What a cipher made has no parity, and is filed all the same.
	blockKey(t, d, "51T2B00N00", "00112233445566778899AABBCCDDEEFF")
}
