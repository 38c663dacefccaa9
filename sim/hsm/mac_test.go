package hsm

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keyward/keyward/internal/vectors"
)

// macVector runs one row through M6, then M8 with the right and with a wrong MAC.
func macVector(t *testing.T, d *Device, c *client, id, algorithm, pad string, key, msg []byte, want string, sm4 bool) {
	t.Helper()
	letter := letterOf("", len(key))
	if sm4 {
		letter = "R"
	}
	size := map[int]string{8: "0", 16: "1", 32: "2"}[len(want)]
	if size == "" {
		size, want = "0", want[:8] // The source prints another number of bytes.
	}
	head := size + algorithm + pad + typeZAK + sealed(t, d, typeZAK, letter, upperHex(key))
	hexMsg := upperHex(msg)
	body := "0" + "1" + head + fmt.Sprintf("%04X%s", len(hexMsg), hexMsg)
	same(t, id, c.must("M6"+body), want)
	same(t, id+" binary", c.must("M6"+"00"+head+fmt.Sprintf("%04X%s", len(msg), msg)), want)
	c.must("M8" + body + want)
	wrong := []byte(want)
	wrong[0] = map[bool]byte{true: '1', false: '0'}[wrong[0] == '0']
	c.wantCode("M8"+body+string(wrong), "01")

	// The same MAC in two pieces, with the chaining value carried by the host.
	block := 8
	if sm4 {
		block = 16
	}
	if len(msg) <= block {
		return
	}
	iv := c.must("M6" + "11" + head + fmt.Sprintf("%04X%s", 2*block, hexMsg[:2*block]))
	last := hexMsg[2*block:]
	same(t, id+" chained", c.must("M6"+"31"+head+iv+fmt.Sprintf("%04X%s", len(last), last)), want)
}

func TestMACVectors(t *testing.T) {
	t.Parallel()
	d, c := vectorDevice(t)
	file := vectors.Load(t, "mac.json")
	for group, algorithm := range map[string]string{
		"iso9797_1_alg1_des": "1", "iso9797_1_alg1_tdes": "1", "iso9797_1_alg3_des": "3", "tdes_cmac": "6", "sm4_mac_gbt15852": "", "sm4_cbc_mac": "1",
	} {
		run := 0
		for _, v := range file.Group(t, group) {
			alg := algorithm
			if group == "sm4_mac_gbt15852" {
				alg = map[int]string{1: "1", 5: "6"}[vectors.Int(v.In, "alg", 0)]
			}
			pad := vectors.Int(v.In, "pad", 0)
			if alg == "" || pad == 3 || vectors.Str(v.In, "iv") != "" {
				continue // No command expresses EMAC, SM4 retail MAC, MacDES, padding 3 or, in mode 0, an IV.
			}
			run++
			macVector(t, d, c, v.ID, alg, fmt.Sprint(pad), vectors.Hex(t, v.In, "key"), vectors.Hex(t, v.In, "msg"), vectors.Str(v.Out, "mac"),
				strings.HasPrefix(group, "sm4"))
		}
		if run == 0 {
			t.Errorf("group %s: no row could be run", group)
		}
		t.Logf("mac %s: %d of %d rows run", group, run, len(file.Group(t, group)))
	}
	for _, v := range file.Group(t, "sm4_cbc_mac") {
		if iv := vectors.Str(v.In, "iv"); iv != "" {
			msg := vectors.Str(v.In, "msg")
			key := sealed(t, d, typeZAK, "R", vectors.Str(v.In, "key"))
			got := c.must("M6" + "31210" + typeZAK + key + iv + fmt.Sprintf("%04X%s", len(msg), msg))
			same(t, v.ID+" iv", got, vectors.Str(v.Out, "mac"))
			raw := unhex(t, msg)
			s0 := c.must("S0" + "0110" + typeZAK + key + "00" + "00" + "05" + fmt.Sprintf("%04X%s", len(raw), raw) + iv)
			same(t, v.ID+" S0", s0, vectors.Str(v.Out, "mac"))
		}
	}
}

func TestRetailMACChained(t *testing.T) {
	t.Parallel()
	d, c := vectorDevice(t)
	for _, v := range vectors.Load(t, "mac.json").Group(t, "iso9797_1_alg3_chained") {
		key := typeZAK + sealed(t, d, typeZAK, "U", vectors.Str(v.In, "key"))
		iv, chunks := "", v.In["chunks"].([]any)
		for i, chunk := range chunks {
			mode := map[bool]string{true: "1", false: "2"}[i == 0]
			if i == len(chunks)-1 {
				mode = "3"
			}
			iv = c.must("M6" + mode + "1" + "131" + key + iv + fmt.Sprintf("%04X%s", len(chunk.(string)), chunk))
			same(t, fmt.Sprintf("%s chunk %d", v.ID, i), iv, v.Out["running"].([]any)[i].(string))
		}
	}
}

// TestUnionPayMAC feeds the hex characters of the XORed blocks, as a host does (docs/hsm-sim.md §5.6). The 3DES rows are
// KAT-3 and the fixtures of facts/unionpay.md §5, because mac.json has the SM4 sibling only.
func TestUnionPayMAC(t *testing.T) {
	t.Parallel()
	d, c := vectorDevice(t)
	type row struct{ name, scheme, mak, xor, want string }
	rows := []row{
		{"KAT-3", "Z", "DAB36167E6DFB5EF", "8669012722F217C6", "E5805ECB"},
		{"MAK8", "Z", "A1A2A3A4A5A6A7A8", "8669012722F217C6", "C9CD62BA"},
		{"MAK16", "U", "A1A2A3A4A5A6A7A8B1B2B3B4B5B6B7B8", "8669012722F217C6", "D45CBF74"},
		{"MAK16 SM4", "R", "A1A2A3A4A5A6A7A8B1B2B3B4B5B6B7B8", "3253052522C033D4B43A040200322412", "4EC953E9"},
	}
	for _, v := range vectors.Load(t, "mac.json").Group(t, "unionpay_sm4_ecb_mac") {
		if vectors.Str(v.In, "mak") == "" {
			t.Logf("%s skipped: it gives the XOR only, which the host computes", v.ID)
			continue
		}
		rows = append(rows, row{v.ID, "R", vectors.Str(v.In, "mak"), vectors.Str(v.Out, "xor"), vectors.Str(v.Out, "mac_ascii")})
		key := typeTAK + sealed(t, d, typeTAK, "R", vectors.Str(v.In, "mak"))
		same(t, v.ID+" whole block", c.must("M6"+"02210"+key+"0020"+vectors.Str(v.Out, "xor")), vectors.Str(v.Out, "t"))
	}
	for _, r := range rows {
		key := typeTAK + sealed(t, d, typeTAK, r.scheme, r.mak)
		body := "02010" + key + fmt.Sprintf("%04X%s", len(r.xor), r.xor)
		same(t, r.name, c.must("M6"+body), r.want)
		c.must("M8" + body + r.want)
	}
}

func TestMACRefusals(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{})
	c := dial(t, d, "all")
	const clear = "0123456789ABCDEFFEDCBA9876543210"
	key, single, sm := typeTAK+sealed(t, d, typeTAK, "U", clear), typeTAK+sealed(t, d, typeTAK, "Z", clear[:16]), typeTAK+sealed(t, d, typeTAK, "R", clear)
	for name, row := range map[string]struct{ body, code string }{
		"retail with single":     {"M600031" + single + "000812345678", "27"},
		"retail with SM4":        {"M600031" + sm + "000812345678", "27"},
		"no padding, odd length": {"M600010" + key + "00071234567", "80"},
		"no padding, empty":      {"M600010" + key + "0000", "80"},
		"first, odd length":      {"M610011" + key + "00071234567", "80"},
		"length too large":       {"M600011" + key + "00091234567", "80"},
		"odd hex":                {"M601011" + key + "0003123", "80"},
		"not hex":                {"M601011" + key + "00041G23", "15"},
		"algorithm 2":            {"M600021" + key + "000812345678", "15"},
		"size 2 with DES":        {"M600211" + key + "000812345678", "15"},
		"PIN key":                {"M60001170D" + sealed(t, d, typeTPK, "U", clear) + "000812345678", "29"},
		"verify without MAC":     {"M800011" + key + "000812345678", "15"},
		"verify, MAC too long":   {"M800011" + key + "000812345678" + "0123456789", "15"},
		"last CMAC block empty":  {"M630060" + key + "0000000000000000" + "0000", "80"},
	} {
		if code, rest := c.ask(row.body); code != row.code || rest != "" {
			t.Errorf("%s: code %s with %d characters, want %s and nothing", name, code, len(rest), row.code)
		}
	}
}
