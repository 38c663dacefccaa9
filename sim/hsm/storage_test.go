package hsm

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestUserStorage(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{})
	c := dial(t, d, "all")
	made := c.must("KR003UK000705a tak")
	kcv := made[33:]
	same(t, "by index", c.must("BU031K0007;000"), kcv)
	same(t, "MAC", c.must("M600111003K00070003abc"), c.must("M600111003"+made[:33]+"0003abc"))
	info := c.must("KG0007")
	same(t, "KG", info[:27], "003U"+kcv+"05a tak")
	if at, err := time.Parse(storedAt, info[27:]); err != nil || time.Since(at) > time.Hour {
		t.Errorf("KG time %q: %v", info[27:], err)
	}
	// A request that is sent twice shows: nothing is overwritten.
	c.wantCode("KR003UK000705again", "21")
	same(t, "unchanged", c.must("KG0007")[4:20], kcv)
	if n := d.Counters().Stored; n != 1 {
		t.Errorf("stored %d, want 1", n)
	}
	block := c.must("KRFFFS#M1T2C00N00K999900%01")
	same(t, "block by index", c.must("M600111FFFK99990003abc%01"), c.must("M600111FFF"+block[:113]+"0003abc%01"))
	same(t, "KG block", c.must("KG9999")[:22], "FFFS"+block[113:]+"00")
	child := c.must("KD011" + sealed(t, d, typeRoot, "R", testClear) + "80DR0010000000000000001K000803TMK")
	same(t, "KD", c.must("KG0008")[:25], "80DR"+child[33:]+"03TMK")
	if out := c.must("HCK0008;RR0"); len(out) != 66 {
		t.Errorf("HC with a stored TMK: %q", out)
	}
	for name, row := range map[string]struct{ body, code string }{
		"empty index":            {"BU031K0001;000", "12"},
		"KG of an empty index":   {"KG0001", "12"},
		"index 0":                {"KR003UK000000", "15"},
		"index not digits":       {"KR003UK00x100", "15"},
		"label too short":        {"KR003UK000109short", "15"},
		"label not printable":    {"KR003UK000103a\x01b", "15"},
		"two suffixes":           {"KR003UK000100K000200", "15"},
		"another type":           {"M600111008K00070003abc", "29"},
		"under another LMK":      {"M600111FFFK00070003abc%01", "A1"},
		"block, variant LMK":     {"BUFFFK9999;FFF;000", "28"},
		"store without a suffix": {"A00003UK000100", "15"},
		"refused, not stored":    {"KR10AUK000100", "29"},
		"in key-change storage":  {"BWFF1K0007;003;0S0#M1T2C00N00%01", "A1"},
	} {
		if code, rest := c.ask(row.body); code != row.code || rest != "" {
			t.Errorf("%s: code %s with %q, want %s", name, code, rest, row.code)
		}
	}
	for i := range maxStored {
		if _, used := d.storage.get(1000 + i); !used && d.storage.count() < maxStored {
			d.storage.put(1000+i, storedKey{})
		}
	}
	c.wantCode("KR003UK000100", "21") // Full.
}

func TestHealth(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{Serial: "A0001", LMKSeed: "live"})
	c := dial(t, d, "all")
	for range 3 {
		c.must("N0001")
	}
	const serial = "A0001       "
	jk := c.must("JK")
	now := time.Now().UTC()
	if at, err := time.Parse(dateTime, jk[12:24]); err != nil || now.Sub(at).Abs() > time.Hour {
		t.Errorf("JK time: %v", err)
	}
	same(t, "JK", jk[:12]+jk[24:], serial+"2213"+"00"+"1"+"02"+"01"+"01"+"00000V0Lsimulated\x14"+"01000K2Tpublic test value\x15"+"00")
	eventually(t, func() bool { return strings.Contains(c.must("J4")[58:], "N0000000000003") })
	j4 := c.must("J4")
	same(t, "J4 serial", j4[:12], serial)
	if len(j4[58:])%14 != 0 || strings.Contains(j4[58:], "CA") {
		t.Errorf("J4: %q", j4)
	}
	j2 := c.must("J2")
	same(t, "J2 first and last step", j2[58:64]+j2[74:75]+j2[58+9*17:64+9*17], "000010;090100")
	if len(j2) != 58+10*17 {
		t.Errorf("J2 has %d characters", len(j2))
	}
	c.wantCode("JKx", "15")
	c.wantCode("J2x", "15")
	c.wantCode("J4x", "15")
}

func TestLoadHistogram(t *testing.T) {
	t.Parallel()
	began := time.Unix(1_700_000_000, 0)
	s := newStats(100, began)
	add := func(second, n int) {
		for range n {
			s.add("CA", began.Add(time.Duration(second)*time.Second))
		}
	}
	add(0, 5)   // 5 %
	add(1, 55)  // 55 %
	add(2, 100) // full
	add(3, 300) // more than it is rated for
	add(7, 99)  // three seconds of nothing before it
	want := [loadSteps]int64{4, 0, 0, 0, 0, 1, 0, 0, 0, 3}
	if got := s.load(began.Add(8 * time.Second)); got != want {
		t.Errorf("periods %v, want %v", got, want)
	}
	if got := s.perCommand()["CA"]; got != 559 {
		t.Errorf("volume %d", got)
	}
	add(2, 1) // Late: counts for the second that runs.
	if got := s.load(began.Add(9 * time.Second)); got[0] != 5 {
		t.Errorf("periods %v", got)
	}
}

func TestChineseSet(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{Set: setSJJ1310, Serial: "TASS00000042"})
	c := dial(t, d, "all")
	same(t, "NC", c.must("NC"), testLMKCheck+defaultVersion+"TASS00000042")
	if n := len(c.must("CR2048")); n != crMaxBytes {
		t.Errorf("CR: %d bytes", n)
	}
	c.wantCode("CR2049", "15")
	for _, absent := range []string{"JK", "J2", "J4"} {
		c.wantCode(absent, "68")
	}
	c.wantCode("NC%01", "13")
	c.wantCode("A00FFFS#72T2B00N00%01", "13")
	c.wantCode("B2"+strings.Repeat("x", maxMessageSJJ), "15")
	dial(t, startDevice(t, Config{}), "all").wantCode("CR0008", "68")
	// Format 04 takes 18 digits of PAN: without the check digit, zeros on the left; the block is made with the left twelve.
	zpk := sealed(t, d, typeZPK, "U", testClear)
	plain := unhex(t, "041234FFFFFFFFFF")
	xorInto(plain, unhex(t, "0000622202000000"))
	plus := upperHex(ecbEncrypt(desBlock(unhex(t, testClear)), plain))
	const number = "622202000000000001" // The 19 digits 622202000000000001 and a check digit.
	iso0 := c.must("CC" + zpk + zpk + "12" + plus + "0401" + number)
	same(t, "to ISO-0", iso0[:2]+iso0[18:], "0401")
	same(t, "there and back", c.must("CC" + zpk + zpk + "12" + iso0[2:18] + "0104" + number)[2:18], plus)
	same(t, "ISO-0 account", c.must("CC" + zpk + zpk + "12" + iso0[2:18] + "0103" + number[6:])[:2], "04")
	short := "000" + number[:15]
	there := c.must("CC" + zpk + zpk + "12" + iso0[2:18] + "0105" + number[6:])
	back := c.must("CC" + zpk + zpk + "12" + there[2:18] + "0504" + short)
	same(t, "fifteen digits", back[2:18], plus)
	c.wantCode("CC"+zpk+zpk+"12"+plus+"0401"+number[:12], "15")
	for name, cfg := range map[string]Config{
		"version": {Set: setSJJ1310, Firmware: strings.Repeat("x", 25)}, "LMK": {Set: setSJJ1310, DefaultLMK: "01"}, "set": {Set: "atalla"},
		"old LMK": {Set: setSJJ1310, OldLMKs: map[string]string{"01": "00"}}, "serial": {Serial: "1234567890123"}, "id": {DefaultLMK: "1"},
		"rate": {RatedPerSecond: -1},
	} {
		cfg.Ports = []Port{{Name: "a"}}
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestFraming runs the header lengths and length rules.
func TestFraming(t *testing.T) {
	t.Parallel()
	for _, header := range []int{0, 1, 2, 4, 12, 255} {
		for _, rule := range []string{"", "all", "payload"} {
			d := startDevice(t, Config{HeaderLength: &header, LengthRule: rule})
			c := dial(t, d, "all")
			name := fmt.Sprintf("header %d rule %q", header, rule)
			counted := header
			if rule == "payload" {
				counted = 0
			}
			for i := range 3 {
				head := strings.Repeat(string(rune('A'+i)), header)
				body := echo(fmt.Sprint(i)) + "\x19T"
				n := counted + len(body)
				if _, err := c.conn.Write(append([]byte{byte(n >> 8), byte(n)}, head+body...)); err != nil {
					t.Fatal(err)
				}
				want := head + "B300" + fmt.Sprint(i) + "\x19T"
				n = len(want) - header + counted
				got := make([]byte, 2+len(want))
				if _, err := readFull(c, got); err != nil {
					t.Fatal(name, err)
				}
				same(t, name, string(got), string([]byte{byte(n >> 8), byte(n)})+want)
			}
			if _, err := c.conn.Write([]byte{0, byte(counted + 1)}); err != nil {
				t.Fatal(err)
			}
			wantClosed(t, c)
		}
	}
	for _, cfg := range []Config{{HeaderLength: new(-1)}, {HeaderLength: new(256)}, {LengthRule: "header"}} {
		cfg.Ports = []Port{{Name: "a"}}
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v accepted", cfg)
		}
	}
}
