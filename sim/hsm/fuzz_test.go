package hsm

import (
	"bytes"
	"io"
	"maps"
	"strings"
	"testing"
)

// goodBodies is one request that works for every command, made for one device.
func goodBodies(tb testing.TB, d *Device) map[string]string {
	tb.Helper()
	const clear, block = "0123456789ABCDEFFEDCBA9876543210", "00100000000000000000"
	old, err := New(Config{Ports: []Port{{Name: "all"}}, LMKSeed: "old"})
	if err != nil {
		tb.Fatal(err)
	}
	k := func(keyType string) string { return sealed(tb, d, keyType, "U", clear) }
	d.storage.put(1, storedKey{keyType: typeTAK, raw: rawKey{letter: 'U', sealed: unhex(tb, k(typeTAK)[1:]), as: typeTAK}, kcv: clear[:16], label: "a key"})
	outer := upperHex(ecbEncrypt(desBlock(unhex(tb, clear)), unhex(tb, clear)))
	pin := upperHex(ecbEncrypt(desBlock(unhex(tb, clear)), unhex(tb, "041261FFFFFDACDE")))
	sm := sealed(tb, d, typeZPK, "R", clear)
	return map[string]string{
		"A0": "A0130BU;1" + k(typeTMK) + "X", "A6": "A6001" + k(typeZMK) + "X" + outer + "U", "A8": "A8001" + k(typeZMK) + k(typeZPK) + "X",
		"B2": "B20003abc", "BU": "BUFF1" + k(typeRoot) + ";011;001", "CA": "CA" + k(typeTPK) + k(typeZPK) + "12" + pin + "0147550000025321",
		"CC": "CC" + k(typeZPK) + k(typeZPK) + "12" + pin + "0105550000025321", "FA": "FA" + k(typeZMK) + "X" + outer + ";0U1", "GC": "GC" + k(typeZMK) + k(typeZPK) + ";X01",
		"HA": "HA" + k(typeTMK) + ";XU0", "HC": "HC" + k(typeTMK) + ";XU0", "KD": "KD011" + k(typeRoot) + "80DU0020000000000000001000000000000000F", "KR": "KR003U",
		"M0": "M00011" + typeZEK + k(typeZEK) + block, "M2": "M20111" + typeTDK + k(typeTDK) + clear[:16] + block,
		"M4": "M4010011" + typeTDK + k(typeTDK) + typeZEK + k(typeZEK) + clear[:16] + block, "M6": "M601131" + typeTAK + k(typeTAK) + block,
		"M8": "M810010" + typeTAK + k(typeTAK) + "000812345678", "N0": "N0008", "NC": "NC", "NO": "NO00",
		"S0": "S00308" + typeMKSMI + k(typeMKSMI) + "01" + clear[:16] + "02" + clear + "01" + "0003abc" + clear[:16],
		"S3": "S301" + typeDEK + k(typeDEK) + "01" + clear[:16] + "02" + clear + "04" + "0003abc" + clear[:16],
		"S4": "S400" + typeDEK + k(typeDEK) + "00" + "00" + "05" + "000812345678",
		"S5": "S500" + typeDEK + k(typeDEK) + "00" + "00" + "05" + "00" + typeZEK + k(typeZEK) + "00" + "00" + "03" + "000812345678",
		"SH": "SH00309" + k(typeControl) + "80D" + k(typeTMK) + "0413220100" + "0103" + "04" + "01" + "1122334400000000" + "05" + "84D400001C",
		"JK": "JK", "J2": "J2", "J4": "J4", "KG": "KG0001",
		"BW": "BWFF1" + sealed(tb, old, typeTMK, "U", clear) + ";80D;0U0",
		"TI": "TI1" + k(typeTPK) + "2" + sm + "12" + pin + "01" + "550000025321" + "48" + "65500000253217;",
	}
}

// blockBodies is the same for the key-block LMK, with every command whose fields differ there. The names are those of the command
// and a word.
func blockBodies(tb testing.TB, d *Device) map[string]string {
	tb.Helper()
	const clear, block = "0123456789ABCDEFFEDCBA9876543210", "00100000000000000000"
	k := func(attributes string) string { return blockKey(tb, d, attributes, clear) }
	outer := upperHex(ecbEncrypt(desBlock(unhex(tb, clear)), unhex(tb, clear)))
	zmk, zpk, tmk := k("52T2B00N00"), k("72T2B00S00"), k("51T2B00S00")
	tr31, _ := newKey(algDES, unhex(tb, clear)).sealTR31(tb, zpk)
	pin := upperHex(ecbEncrypt(desBlock(unhex(tb, clear)), unhex(tb, "041261FFFFFDACDE")))
	old := sealed(tb, d, typeTMK, "U", clear)
	bodies := map[string]string{
		"A0 block": "A01FFFS;1" + tmk + "X#71T2B00S00", "A0 TR-31": "A01FFFS;0" + zmk + "R#71T2B00E00", "A6 block": "A6FFF" + zmk + "X" + outer + "S#72T2N00N00",
		"A6 TR-31": "A6FFF" + zmk + "R" + tr31 + "S", "A8 block": "A8FFF" + zmk + zpk + "R", "BU block": "BUFFF" + zpk + ";FFF;001",
		"BW block": "BWFF1" + old + ";80D;0S0#51T2B00S00", "CA block": "CA" + k("71T2B00N00") + zpk + "12" + pin + "0147550000025321",
		"KD block": "KDFFF" + k("E7T2X00N00") + "FFFS0010000000000000001#51T2B00S00", "KR block": "KRFFFS#M141C00N00",
		"M2 block": "M20111FFF" + k("23T2D00N00") + clear[:16] + block, "M6 block": "M601131FFF" + k("M3T2G00N00") + block,
		"M8 AES":   "M801260FFF" + blockKey(tb, d, "M6A1V00N00", clear) + "0010" + clear[:16] + strings.Repeat("0", 32),
		"S0 block": "S00308FFF" + k("E2T2N00N00") + "0000" + "01" + "0003abc" + clear[:16],
		"SH block": "SH00FFF" + k("E1T2N00N00") + "FFF" + tmk + "0413220100" + "0103" + "04" + "01" + "1122334400000000" + "05" + "84D400001C",
	}
	for name := range bodies {
		bodies[name] += "%01"
	}
	return bodies
}

// sealTR31 makes a TR-31 block with the header of a key block's key, under k.
func (k *key) sealTR31(tb testing.TB, like string) (string, errorCode) {
	tb.Helper()
	b, version, code := k.tr31()
	if code != codeOK {
		tb.Fatal(code)
	}
	a := attributesOf([]byte(like[1:]))
	a.usage = "P0"
	return string(sealBlock(b, version, a, "00", k)), code
}

// TestCutAndChanged takes a good request of every command and cuts it at every place, and puts a foreign byte at every
// place: never a panic, always one answer; a cut request is never carried out.
func TestCutAndChanged(t *testing.T) {
	t.Parallel()
	// Parity is not checked, so that what a changed key leads to is tried too.
	d := startDevice(t, Config{IgnoreParity: true, OldLMKs: map[string]string{"00": "seed:old"}})
	c := dial(t, d, "all")
	bodies := goodBodies(t, d)
	for _, name := range AllCommands() {
		if _, ok := bodies[name]; ok != commands[name].in(false) {
			t.Errorf("a good request for %s: %v", name, ok)
		}
	}
	maps.Copy(bodies, blockBodies(t, d))
	// Requests with optional fields at their end: these shorter forms are requests in their own right.
	optional := map[string]bool{"HA": true, "HC": true, "FA": true, "GC": true, "BU": true, "BW": true, "BW block": true}
	shorter := func(name, cut string) bool {
		return optional[name] && strings.Count(cut, ";") < strings.Count(bodies[name], ";")
	}
	for name, body := range bodies {
		if name == "M8 AES" {
			c.wantCode(body, "01")
			continue
		}
		if code, _ := c.ask(body); code != "00" {
			t.Errorf("%s: code %s", name, code)
			continue
		}
		for i := 2; i < len(body); i++ {
			if code, _ := c.ask(body[:i]); code == "00" && !shorter(name, body[:i]) {
				t.Errorf("%s cut to %d characters is carried out", name, i)
			}
			for _, foreign := range []byte{'G', 0x00, 0xFF, '9', ';'} {
				c.ask(body[:i] + string([]byte{foreign}) + body[i+1:])
			}
		}
		if code, _ := c.ask(body + "0"); code != "15" && code != "80" {
			t.Errorf("%s with a character more: code %s", name, code)
		}
		same(t, name+" trailer", c.must(body + "\x19T")[len(c.must(body)):], "\x19T")
	}
}

// FuzzCommand feeds anything to the frame and command parser.
func FuzzCommand(f *testing.F) {
	d, err := New(Config{Ports: []Port{{Name: "all", Addr: "127.0.0.1:0", Allow: AllCommands()}}, IgnoreParity: true, OldLMKs: map[string]string{"00": "seed:old"}})
	if err != nil {
		f.Fatal(err)
	}
	bodies := goodBodies(f, d)
	maps.Copy(bodies, blockBodies(f, d))
	bodies["KR stored"] = "KR003UK000205label%00"
	bodies["M6 stored"] = "M601131" + typeTAK + "K0001" + "0004abcd"
	for _, body := range bodies {
		f.Add(frame("HEAD", body))
		f.Add(frame("HEAD", body+"\x19trailer"))
		f.Add(frame("HEAD", body[:len(body)-1]))
	}
	f.Add([]byte("\x00\x05HEADN"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, stream []byte) {
		c := newConn(d, d.ports[0], nil, 1)
		c.reader.Reset(bytes.NewReader(stream))
		c.writer.Reset(io.Discard)
		for {
			msg, ok := c.read(nil)
			if !ok {
				return
			}
			r := c.execute(d.now.Load(), msg)
			if len(r.answer) < 8 || len(r.answer) > 0xFFFF || !bytes.Equal(r.answer[:4], msg[:4]) || string(r.answer[6:8]) != string(r.code) {
				t.Errorf("command %q code %s: an answer of %d bytes that no client can read", r.command, r.code, len(r.answer))
			}
			if r.answer[5] != msg[5]+1 {
				t.Errorf("command %q: wrong answer code", r.command)
			}
		}
	})
}

// FuzzKeyBlock opens anything as a key block under the LMK and as a TR-31 block: what opens seals to the same key again, and nothing
// that was not made with the key opens.
func FuzzKeyBlock(f *testing.F) {
	l := newBlockLMK("")
	k := newKey(algDES, unhex(f, "0123456789ABCDEFFEDCBA9876543210"))
	a, _ := parseAttributes("72T2B00N00")
	field, _ := l.seal(a, k)
	f.Add(string(field[1:]))
	f.Add("10112" + strings.Repeat("0", 107))
	f.Fuzz(func(t *testing.T, text string) {
		q := fields{buf: []byte("S" + text)}
		raw := q.key()
		if q.code != "" {
			return
		}
		opened, code := l.open(raw.sealed)
		if code != codeOK {
			return
		}
		again, code := l.seal(opened.attributes, opened)
		if code != codeOK || string(again[:1+headerChars]) != "S"+text[:headerChars] {
			t.Errorf("what opened does not seal: %s", code)
		}
	})
}
