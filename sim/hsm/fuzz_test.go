package hsm

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

// goodBodies is one request that works for every command, made for one device.
func goodBodies(tb testing.TB, d *Device) map[string]string {
	tb.Helper()
	const clear, block = "0123456789ABCDEFFEDCBA9876543210", "00100000000000000000"
	k := func(keyType string) string { return sealed(tb, d, keyType, "U", clear) }
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
		"TI": "TI1" + k(typeTPK) + "2" + sm + "12" + pin + "01" + "550000025321" + "48" + "65500000253217;",
	}
}

// TestCutAndChanged takes a good request of every command and cuts it at every place, and puts a foreign byte at every
// place: never a panic, always one answer; a cut request is never carried out.
func TestCutAndChanged(t *testing.T) {
	t.Parallel()
	// Parity is not checked, so that what a changed key leads to is tried too.
	d := startDevice(t, Config{IgnoreParity: true})
	c := dial(t, d, "all")
	bodies := goodBodies(t, d)
	// Requests with optional fields at their end: these shorter forms are requests in their own right.
	shorter := func(name, cut string) bool {
		return (name == "HA" || name == "HC" || name == "FA" || name == "GC" || name == "BU") && strings.Count(cut, ";") < strings.Count(bodies[name], ";")
	}
	for _, name := range AllCommands() {
		body, ok := bodies[name]
		if !ok {
			t.Errorf("no good request for %s", name)
			continue
		}
		c.must(body)
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
	d, err := New(Config{Ports: []Port{{Name: "all", Addr: "127.0.0.1:0", Allow: AllCommands()}}, IgnoreParity: true})
	if err != nil {
		f.Fatal(err)
	}
	for _, body := range goodBodies(f, d) {
		f.Add(frame("HEAD", body))
		f.Add(frame("HEAD", body+"\x19trailer"))
		f.Add(frame("HEAD", body[:len(body)-1]))
	}
	f.Add([]byte("\x00\x05HEADN"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, stream []byte) {
		p := d.ports[0]
		c := newConn(d, p, nil, 1)
		c.reader.Reset(bytes.NewReader(stream))
		c.writer.Reset(io.Discard)
		for {
			msg, ok := c.read(nil)
			if !ok {
				return
			}
			answer, name, code := execute(msg, p.allow, d.base, &d.settings, nil)
			if len(answer) < headerBytes+4 || len(answer) > 0xFFFF || !bytes.Equal(answer[:headerBytes], msg[:headerBytes]) || string(answer[6:8]) != string(code) {
				t.Errorf("command %q code %s: an answer of %d bytes that no client can read", name, code, len(answer))
			}
			if answer[headerBytes+1] != msg[headerBytes+1]+1 {
				t.Errorf("command %q: wrong answer code", name)
			}
		}
	})
}
