package pos

import (
	"bytes"
	"strings"
	"testing"

	"github.com/keyward/keyward/internal/vectors"
	"github.com/keyward/keyward/sim/psam"
	"github.com/keyward/keyward/sim/psam/psamtest"
)

// Packets [2], [5] and [11] of facts/unionpay-packets.txt.
const (
	packet2  = "0057600601000061310031110808000020000000C0001600000132323030333630303130343531323534313131303030310011000000000030002553657175656E6365204E6F31323330363032323030333630300003303031"
	packet5  = "0069600601000061310031110802003020048000C08031000000000000000001000001032000323230303336303031303435313235343131313030303131353600244133303139363231313131313131313131313131313131310013220066030006004535383035454342"
	packet11 = "0200302004C020C0981100000000000000000101386702100006379001100000000027D00000000000000000000031313131353030373132333435363738393131313131353135363D87C8B8FA17C67C260000000000000000112200143700003238433741464235"
	answer1  = "007960000001386131003111080810003800010AC0001450021122130107200800085500323231333031343931333239303039393939393930363030313433303137303131393939390011000005190030004046F161A743497B32EAC760DF5EA57DF5900ECCE3977731A7EA402DDF0000000000000000CFF1592A"
	answer3  = "007960000006016031003118120810003800010AC00014000000105203041308000965003130353230333037383838323030323230303336303031303435313235343131313030303100110000660300300040E01B3E860949EE4C0BDDD573168ED6BA097575553945990F875BA4EB0000000000000000EDE09D04"
)

// TestSignOnPacket builds the real sign-on request [2].
func TestSignOnPacket(t *testing.T) {
	t.Parallel()
	h := startHost(t)
	cfg := testConfig(t, h)
	cfg.TerminalID, cfg.MerchantID, cfg.TPDU, cfg.Header, cfg.Scheme, cfg.Serial = "22003600", "104512541110001", "6006010000", "613100311108", "003", "306022003600"
	terminal := newTerminal(t, cfg)
	terminal.SignOn(t.Context())
	sent := h.last()
	frame, err := sent.frame()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(frame, psamtest.Hex(t, packet2)) {
		t.Errorf("sign-on\n%X, want\n%s", frame, packet2)
	}
}

// TestRealPacketsRoundTrip decodes packets and packs them again, byte for byte.
func TestRealPacketsRoundTrip(t *testing.T) {
	t.Parallel()
	for _, text := range []string{packet2, packet5, answer1, answer3} {
		frame := psamtest.Hex(t, text)
		p, _, err := parsePacket(frame[2:])
		if err != nil {
			t.Fatalf("%.8s: %v", text, err)
		}
		again, err := p.frame()
		if err != nil || !bytes.Equal(again, frame) {
			t.Errorf("%.8s: packed again %X, %v", text, again, err)
		}
	}
	p, _, err := parsePacket(psamtest.Hex(t, answer3)[2:])
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range map[int]string{11: "000000", 12: "105203", 13: "0413", 32: "00096500", 37: "105203078882", 39: "00", 41: "22003600", 60: "00006603003"} {
		if p.fields[n] != want {
			t.Errorf("[3] field %d is %q, want %q", n, p.fields[n], want)
		}
	}
}

// publishedKeys is a card that holds the published keys of a packet.
func publishedKeys(t *testing.T, pik, mak string) reader {
	t.Helper()
	card := issuedCard(t)
	psamtest.LoadWorkKeys(t, card, psamtest.TDES, testRoot, psamtest.Hex(t, pik), psamtest.Hex(t, mak), nil)
	return reader{card: card}
}

// TestPacket5MAC computes and verifies the MAC of the real purchase [5] with its published key in the card.
func TestPacket5MAC(t *testing.T) {
	t.Parallel()
	r := publishedKeys(t, "0102030405060708090A0B0C0D0E0F10", "DAB36167E6DFB5EF")
	p, mab, err := parsePacket(psamtest.Hex(t, packet5)[2:])
	if err != nil {
		t.Fatal(err)
	}
	if mac, err := r.mac(mab); err != nil || mac != p.fields[64] {
		t.Errorf("MAC %q, %v", mac, err)
	}
	if err := r.verify(mab, p.fields[64]); err != nil {
		t.Error(err)
	}
	if err := r.verify(mab, "E5805ECC"); !swIs(err, 0x9302) {
		t.Errorf("wrong MAC: %v", err)
	}
}

// TestPacket11 builds the mag-stripe purchase [11] whole: PIN block and MAC come from a card with the published keys.
func TestPacket11(t *testing.T) {
	t.Parallel()
	h := startHost(t)
	cfg := testConfig(t, h)
	cfg.TerminalID, cfg.MerchantID, cfg.Scheme = "11115007", "123456789111115", "003"
	terminal := newTerminal(t, cfg)
	terminal.reader = publishedKeys(t, "4567C298FB0B045DAB54BF499E10EFCD", "7F52E3201FDF045E")
	terminal.state.Batch = "001437"
	card := account{PAN: "9001100000000027", Track2: "9001100000000027D00000000000000000000"}
	p, err := terminal.build("0200", "000000", terminal.field60("22"), "021", 1, card, "123456")
	if err != nil {
		t.Fatal(err)
	}
	p.fields[11] = "013867"
	if err := terminal.sign(p); err != nil {
		t.Fatal(err)
	}
	body, err := p.body(false)
	if err != nil || !bytes.Equal(body, psamtest.Hex(t, packet11)) {
		t.Errorf("purchase\n%X, want\n%s (%v)", body, packet11, err)
	}
}

// TestTrackFixtures are the made-up tracks of facts/unionpay.md §4.
func TestTrackFixtures(t *testing.T) {
	t.Parallel()
	card := issuedCard(t)
	psamtest.LoadWorkKeys(t, card, psamtest.TDES, testRoot, testPIK, testMAK, testTDK)
	for clear, want := range map[string]string{
		"6222020000000000000D25121010000012345": "6222020000000000000D883F4D7A8A714B825",
		"622202000000000000D2512101000001234":   "622202000000000000A18F9F02CA0280994",
	} {
		if got, err := (reader{card: card}).track(clear, false); err != nil || got != want {
			t.Errorf("track of %d digits differs (%v)", len(clear), err)
		}
	}
	if _, err := (reader{card: card}).track("123456789012345", false); err == nil {
		t.Error("a track shorter than the block was accepted")
	}
}

// TestTrackFixturesSM4: the SM4 block takes 32 digits.
func TestTrackFixturesSM4(t *testing.T) {
	t.Parallel()
	card, err := psam.NewBlank(testPSAM, testTransport)
	if err != nil {
		t.Fatal(err)
	}
	psamtest.Issue(t, card, testTransport, testRoot, testRoot)
	psamtest.LoadWorkKeys(t, card, psamtest.SM4, testRoot, testPIK, testPIK, testTDK)
	for clear, want := range map[string]string{
		"6222020000000000000D25121010000012345": "62227E64B0464172A9E291338CC6590681A35",
		"622202000000000000D2512101000001234":   "6246D047E50DEFED910D86EB5FA824D2A94",
	} {
		if got, err := (reader{card: card}).track(clear, true); err != nil || got != want {
			t.Errorf("track of %d digits differs (%v)", len(clear), err)
		}
	}
	if _, err := (reader{card: card}).track("1234567890123456789012345678901=", true); err == nil {
		t.Error("a track shorter than the block was accepted")
	}
}

// TestPINRefusals is encode_reject of pinblock.json for format 0, as the terminal sees it: whole PANs.
func TestPINRefusals(t *testing.T) {
	t.Parallel()
	r := publishedKeys(t, "0102030405060708090A0B0C0D0E0F10", "DAB36167E6DFB5EF")
	used := 0
	for _, v := range vectors.Load(t, "pinblock.json").Group(t, "encode_reject") {
		if vectors.Int(v.In, "format", -1) != 0 {
			continue
		}
		used++
		if _, err := r.pinBlock(pinISO0, vectors.Str(v.In, "pin"), vectors.Str(v.In, "pan")); err == nil {
			t.Errorf("%s accepted", v.ID)
		}
	}
	if used == 0 {
		t.Error("no vector used")
	}
}

// TestUnionpayVectors decodes the messages of iso8583.json and refuses its mutations.
func TestUnionpayVectors(t *testing.T) {
	t.Parallel()
	file := vectors.Load(t, "iso8583.json")
	for _, v := range file.Group(t, "unionpay_pos") {
		p, _, err := parsePacket(vectors.Hex(t, v.In, "message"))
		if err != nil {
			t.Errorf("%s: %v", v.ID, err)
			continue
		}
		if p.mti != vectors.Str(v.Out, "mti") || p.tpdu != vectors.Str(v.Out, "tpdu") || p.header != vectors.Str(v.Out, "header") {
			t.Errorf("%s: MTI, TPDU or header differ", v.ID)
		}
		for n, value := range p.fields {
			want := vectors.Str(v.Out, itoa(n))
			if value != want && hexText([]byte(value)) != want {
				t.Errorf("%s: field %d differs", v.ID, n)
			}
		}
	}
	for _, v := range file.Group(t, "unionpay_bad") {
		if _, _, err := parsePacket(vectors.Hex(t, v.In, "message")); err == nil {
			t.Errorf("%s (%s) accepted", v.ID, vectors.Str(v.Out, "reject"))
		}
	}
}

func itoa(n int) string {
	return strings.TrimLeft(string([]byte{'0' + byte(n/10), '0' + byte(n%10)}), "0")
}

// TestParseRefusesOverLongFields: lengths over the table's are refused even when the bytes are all there.
func TestParseRefusesOverLongFields(t *testing.T) {
	t.Parallel()
	const prefix = "6000030000603100310100" + "0200"
	for name, rest := range map[string]string{
		"F2 of 20 digits": "4000000000000000" + "20" + strings.Repeat("11", 10),
		"F44 of 26 bytes": "0000000000100000" + "26" + strings.Repeat("20", 26),
		"F54 of 21 bytes": "0000000000000400" + "0021" + strings.Repeat("30", 21),
		"undefined F5":    "0800000000000000" + strings.Repeat("00", 6),
		"bit 1":           "8000000000000000" + strings.Repeat("00", 8),
		"length A0":       "4000000000000000" + "A0" + strings.Repeat("11", 10),
	} {
		if _, _, err := parsePacket(psamtest.Hex(t, prefix+rest)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestPackRefusals(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(packet){
		"letters in digits":  func(p packet) { p.fields[11] = "00000A" },
		"short fixed field":  func(p packet) { p.fields[41] = "123" },
		"long variable":      func(p packet) { p.fields[2] = strings.Repeat("1", 20) },
		"empty variable":     func(p packet) { p.fields[60] = "" },
		"unknown field":      func(p packet) { p.fields[5] = "1" },
		"field out of range": func(p packet) { p.fields[65] = "1" },
	} {
		p := newPacket("0800")
		p.tpdu, p.header = defaultTPDU, defaultHeader
		p.fields[11] = "000001"
		if _, err := p.frame(); err != nil {
			t.Fatal(err)
		}
		spoil(p)
		if _, err := p.frame(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestDumpHidesSecrets looks for PAN, track, PIN block, keys and MAC in the dump of messages that hold them.
func TestDumpHidesSecrets(t *testing.T) {
	t.Parallel()
	p := newPacket("0200")
	p.tpdu, p.header = defaultTPDU, defaultHeader
	p.fields[2], p.fields[35] = testPAN, testPAN+"D30122201234501234"
	p.fields[52], p.fields[64], p.fields[62], p.fields[55] = "\x11\x22\x33\x44\x55\x66\x77\x88", "E5805ECB", "SECRETKEYS", "\x9F\x26\x01\x02"
	d := p.dump()
	all := d.Raw + strings.Join(d.Fields, " ")
	if d.Raw == "" || !strings.Contains(all, "622202*********0018") {
		t.Fatalf("dump %q", all)
	}
	for _, secret := range []string{testPAN, testPAN[6:15], "1122334455667788", "E5805ECB", hexText([]byte("E5805ECB")), "SECRET", hexText([]byte("SECRET")), "3012220", "9F26"} {
		if strings.Contains(all, secret) {
			t.Errorf("the dump shows a hidden value")
		}
	}
}

// FuzzParsePacket: whatever arrives, parsing ends with an error or with a packet that packs again to the same meaning.
func FuzzParsePacket(f *testing.F) {
	for _, text := range []string{packet2, packet5, answer1, answer3} {
		f.Add(psamtest.Hex(f, text)[2:])
	}
	f.Add(psamtest.Hex(f, "6000030000603100310100"+packet11))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, _, err := parsePacket(raw)
		if err != nil {
			return
		}
		p.dump()
		parseBalance(p.fields[54])
		_, _ = splitKeys([]byte(p.fields[62]), "004")
		for _, n := range p.numbers() {
			if len(p.fields[n]) == 0 {
				return // an empty variable field is read but never written
			}
		}
		frame, err := p.frame()
		if err != nil {
			if len(raw) > maxPacket {
				return
			}
			t.Fatalf("parsed but not packed again: %v", err)
		}
		again, _, err := parsePacket(frame[2:])
		if err != nil {
			t.Fatalf("packed but not parsed again: %v", err)
		}
		for n, value := range p.fields {
			if again.fields[n] != value {
				t.Fatalf("field %d changed", n)
			}
		}
	})
}
