package hsm

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keyward/keyward/internal/vectors"
)

// s3Body builds the fields of S3 and S4 without diversification and session.
func s3Body(command, mode, key, padding string, data []byte, iv string) string {
	return command + mode + key + "00" + "00" + padding + fmt.Sprintf("%04X%s", len(data), data) + iv
}

func TestSM4Vectors(t *testing.T) {
	t.Parallel()
	d, c := vectorDevice(t)
	file := vectors.Load(t, "sm.json")
	for _, v := range file.Group(t, "sm4_ecb") {
		if n := vectors.Int(v.In, "iterations", 1); n > 1 {
			t.Logf("%s skipped: %d commands", v.ID, n)
			continue
		}
		key := typeDEK + sealed(t, d, typeDEK, "R", vectors.Str(v.In, "key"))
		pt, ct := vectors.Hex(t, v.In, "pt"), vectors.Hex(t, v.Out, "ct")
		same(t, v.ID, c.must(s3Body("S3", "00", key, "05", pt, ""))[4:], string(ct))
		same(t, v.ID+" back", c.must(s3Body("S4", "00", key, "05", ct, ""))[4:], string(pt))
	}
	for _, v := range file.Group(t, "sm4_modes") {
		if vectors.Str(v.In, "mode") != "cbc" {
			t.Logf("%s skipped: mode %s is not offered", v.ID, vectors.Str(v.In, "mode"))
			continue
		}
		key := typeDEK + sealed(t, d, typeDEK, "R", vectors.Str(v.In, "key"))
		pt, ct, iv := vectors.Hex(t, v.In, "pt"), vectors.Hex(t, v.Out, "ct"), vectors.Str(v.In, "iv")
		same(t, v.ID, c.must(s3Body("S3", "01", key, "05", pt, iv))[4:], string(ct))
		same(t, v.ID+" back", c.must(s3Body("S4", "01", key, "05", ct, iv))[4:], string(pt))
		// M0 chains: the first answer's IV goes into the second request.
		half, one := upperHex(pt[:32]), upperHex(pt[32:])
		answer := c.must("M0" + "0111" + key + iv + fmt.Sprintf("%04X%s", len(half), half))
		same(t, v.ID+" M0", answer[36:], upperHex(ct[:32]))
		same(t, v.ID+" M0 second", c.must("M0" + "0111" + key + answer[:32] + fmt.Sprintf("%04X%s", len(one), one))[36:], upperHex(ct[32:]))
	}
}

func TestPaddings(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{})
	c := dial(t, d, "all")
	const clear, iv = "0123456789ABCDEFFEDCBA9876543210", "00112233445566778899AABBCCDDEEFF"
	for letter, ivHex := range map[string]string{"U": iv[:16], "R": iv} {
		key := typeDEK + sealed(t, d, typeDEK, letter, clear)
		other := typeTDK + sealed(t, d, typeTDK, letter, "FEDCBA98765432100123456789ABCDEF")
		for _, padding := range []string{"00", "01", "03", "04"} {
			for n := range 35 {
				data := []byte(strings.Repeat("k", n))
				for mode, iv := range map[string]string{"00": "", "01": ivHex} {
					sealed := c.must(s3Body("S3", mode, key, padding, data, iv))
					name := fmt.Sprintf("%s padding %s mode %s length %d", letter, padding, mode, n)
					same(t, name, c.must(s3Body("S4", mode, key, padding, []byte(sealed[4:]), iv))[4:], string(data))
					moved := c.must("S5" + mode + key + "0000" + padding + "00" + other + "0000" + "01" + sealed + iv)
					same(t, name+" S5", c.must(s3Body("S4", "00", other, "01", []byte(moved[4:]), ""))[4:], string(data))
				}
			}
		}
		// facts/hsm.md §1.7.3: padding that does not fit is refused, and whole blocks are needed without padding.
		c.wantCode(s3Body("S3", "00", key, "05", []byte("123"), ""), "80")
		c.wantCode(s3Body("S4", "00", key, "05", []byte("123"), ""), "80")
		c.wantCode(s3Body("S4", "00", key, "01", make([]byte, 32), ""), "15")
		c.wantCode(s3Body("S3", "00", key, "06", make([]byte, 32), ""), "15")
	}
}

func TestTranslateData(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{})
	c := dial(t, d, "all")
	const clear, track = "0123456789ABCDEFFEDCBA9876543210", "6222020000000000018D251210100000"
	for _, letter := range []string{"U", "R"} {
		tdk, zek := typeTDK+sealed(t, d, typeTDK, letter, clear), typeZEK+sealed(t, d, typeZEK, letter, "FEDCBA98765432100123456789ABCDEF")
		under := c.must("M0" + "0011" + tdk + "0020" + track)
		same(t, letter+" M2", c.must("M2"+"0011"+tdk+under), "0020"+track)
		moved := c.must("M4" + "0000" + "11" + tdk + zek + under)
		same(t, letter+" M4", c.must("M2"+"0011"+zek+moved), "0020"+track)
		same(t, letter+" M2 binary", c.must("M2"+"0010"+zek+moved), "0010"+string(unhex(t, track)))
		iv := map[string]string{"U": clear[:16], "R": clear}[letter]
		cbc := c.must("M4" + "0001" + "11" + tdk + zek + iv + under)
		same(t, letter+" M4 to CBC", c.must("M2" + "0111" + zek + iv + cbc[len(iv):])[len(iv):], "0020"+track)
		c.wantCode("M0"+"0011"+tdk+"0002"+"62", "80")
		c.wantCode("M0"+"0011"+tdk+"0000", "80")
		c.wantCode("M0"+"0211"+tdk+"0020"+track, "15")
		c.wantCode("M0"+"0011"+typeTPK+sealed(t, d, typeTPK, letter, clear)+"0020"+track, "29")
	}
}

// TestSession makes a MAC with a diversified key and compares it with the key derived by KD.
func TestDiversifiedMAC(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{IgnoreParity: true})
	c := dial(t, d, "all")
	const clear, factor = "0123456789ABCDEFFEDCBA9876543210", "6212345678901234"
	for letter, alg := range map[string]string{"U": "03", "R": "01"} {
		child, code := derive(newKey(schemes[letter[0]].alg, unhex(t, clear)), unhex(t, factor))
		if code != codeOK {
			t.Fatal(code)
		}
		iv := strings.Repeat("0", 2*child.blockSize())
		tail := "00" + "01" + "0005" + "hello" + iv
		got := c.must("S0" + alg + "08" + typeMKSMI + sealed(t, d, typeMKSMI, letter, clear) + "01" + factor + tail)
		want := c.must("S0" + alg + "08" + typeMKSMI + sealed(t, d, typeMKSMI, letter, upperHex(child.clear)) + "00" + tail)
		same(t, letter, got, want)
		m6 := c.must("M6" + "001" + alg[1:] + "2" + typeTAK + sealed(t, d, typeTAK, letter, upperHex(child.clear)) + "0005" + "hello")
		same(t, letter+" M6", m6, want)
		c.wantCode("S0"+alg+"08"+typeMKSMI+sealed(t, d, typeMKSMI, letter, clear)+"04"+strings.Repeat(factor, 4)+tail, "15")
	}
}
