package racal

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
)

// with makes a driver from settings.
func with(tb testing.TB, settings ...string) *Driver {
	tb.Helper()
	m := map[string]string{}
	for _, s := range settings {
		name, value, _ := strings.Cut(s, "=")
		m[name] = value
	}
	d, err := newDriver(m)
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// blockText is a key block of usage, algorithm, mode, version, exportability and the first digit of the number of optional blocks, with nonsense inside; 112 characters and the letter (docs/hsm-sim.md §9.2).
func blockText(attributes string) string {
	return "S10112" + attributes + "001" + strings.Repeat("0123456789ABCDEF", 6)
}

func block(usage keys.Usage, algorithm keys.Algorithm, attributes string) keys.Wrapped {
	return keys.Wrapped{Usage: usage, Algorithm: algorithm, Domain: "b", Cryptogram: blockText(attributes), KCV: kcv16}
}

var (
	blockTMK  = block(keys.TerminalMaster, keys.TDES, "51TB00S0")
	blockTMK4 = block(keys.TerminalMaster, keys.SM4, "514B00S0")
	blockPIK  = block(keys.PINKey, keys.TDES, "71TB00S0")
	blockPIK4 = block(keys.PINKey, keys.SM4, "714B00S0")
	blockMAK  = block(keys.MACKey, keys.TDES, "M1TC00S0")
	blockMAK4 = block(keys.MACKey, keys.SM4, "M14C00S0")
	blockSeal = block(keys.Seal, keys.TDES, "M3TC00E0")
	blockTDK  = block(keys.TrackKey, keys.TDES, "23TB00S0")
	blockZPK  = block(keys.ZonePIN, keys.TDES, "72TB00E0")
	blockZMK  = block(keys.ZoneMaster, keys.TDES, "52TB00N0")
	blockRoot = block(keys.Root, keys.TDES, "E7TX00N0")
	blockCCK  = block(keys.CardControl, keys.TDES, "E1TN00S0")
)

// tr31 is a TR-31 block with nonsense inside.
const tr31 = "RB0080P0TB00E0000" + "0123456789ABCDEF" + "0123456789ABCDEF" + "0123456789ABCDEF" + "0123456789ABCDEF"

func TestKeyBlockWorkKeys(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		req     command.WorkKey
		request string
		answer  string
		got     string
	}{
		"PIN": {command.WorkKey{Master: blockTMK, Usage: keys.PINKey, Algorithm: keys.TDES}, "A01FFFS;1" + blockTMK.Cryptogram + "X#71T2B00S00",
			"A100" + blockPIK.Cryptogram + "X" + hex32b + kcv16[:6], blockPIK.Cryptogram},
		"MAC": {command.WorkKey{Master: blockTMK, Usage: keys.MACKey, Algorithm: keys.TDES}, "A01FFFS;1" + blockTMK.Cryptogram + "X#M1T2C00S00",
			"A100" + blockMAK.Cryptogram + "X" + hex32b + kcv16[:6], blockMAK.Cryptogram},
		"single MAC": {command.WorkKey{Master: blockTMK, Usage: keys.MACKey, Algorithm: keys.DES}, "A01FFFS;1" + blockTMK.Cryptogram + "Z#M1D1C00S00",
			"A100" + blockText("M1DC00S0") + hex32b[:16] + kcv16[:6], blockText("M1DC00S0")},
		"track": {command.WorkKey{Master: blockTMK, Usage: keys.TrackKey, Algorithm: keys.TDES}, "A01FFFS;1" + blockTMK.Cryptogram + "X#23T2B00S00",
			"A100" + blockTDK.Cryptogram + "X" + hex32b + kcv16, blockTDK.Cryptogram},
		"SM4 PIN": {command.WorkKey{Master: blockTMK4, Usage: keys.PINKey, Algorithm: keys.SM4}, "A01FFFS;1" + blockTMK4.Cryptogram + "R#7141B00S00",
			"A100" + blockPIK4.Cryptogram + "R" + hex32b + kcv16[:6], blockPIK4.Cryptogram},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &script{t: t, steps: [][2]string{{c.request, c.answer}, {"BUFFF" + c.got + ";FFF;000", "BV00" + kcv16}}}
			got, err := with(t, "lmk=keyblock").MakeWorkKey(t.Context(), s, c.req)
			if err != nil {
				t.Fatal(err)
			}
			s.done()
			if got.Key.Cryptogram != c.got || got.Key.Domain != "b" || got.Key.KCV != kcv16 || len(got.UnderMaster) != keyBytes(c.req.Algorithm) {
				t.Errorf("got %s", got.Key)
			}
		})
	}
}

func TestKeyBlockRequests(t *testing.T) {
	t.Parallel()
	d := with(t, "lmk=keyblock")
	pan, err := secret.ParsePAN("4555000002532148")
	if err != nil {
		t.Fatal(err)
	}
	zone := command.ZoneKey{Usage: keys.ZonePIN, Algorithm: keys.TDES, Cipher: tr31, KCV: keys.KCV(kcv16[:6])}
	for _, c := range []exchange{
		{"CA", "CA" + blockPIK.Cryptogram + blockZPK.Cryptogram + "126428EB94035AF53B0101500000253214", "CB000491DDDA0A7C12CFAA01",
			func(ctx context.Context, on driver.Conversation) error {
				_, err := d.TranslatePIN(ctx, on, command.PINTranslation{From: blockPIK, To: blockZPK, FromFormat: command.PINISO0, ToFormat: command.PINISO0,
					Block: secret.New(unhex(t, "6428EB94035AF53B")), PAN: pan})
				return err
			}},
		{"M6", "M600111FFF" + blockMAK.Cryptogram + "0003abc", "M700" + kcv16, func(ctx context.Context, on driver.Conversation) error {
			_, err := d.MAC(ctx, on, command.MACInput{Key: blockMAK, Algorithm: command.MACAlg1, Data: []byte("abc")})
			return err
		}},
		{"M8 of a seal", "M800031FFF" + blockSeal.Cryptogram + "0003abc01020304", "M900", func(ctx context.Context, on driver.Conversation) error {
			_, err := d.VerifyMAC(ctx, on, command.MACInput{Key: blockSeal, Algorithm: command.MACAlg3, Data: []byte("abc")}, []byte{1, 2, 3, 4})
			return err
		}},
		{"S0", "S00110FFF" + blockMAK4.Cryptogram + "0000020003abc" + strings.Repeat("0", 32), "S100" + hex32, func(ctx context.Context, on driver.Conversation) error {
			_, err := d.MAC(ctx, on, command.MACInput{Key: blockMAK4, Algorithm: command.MACSM4CBC, Data: []byte("abc")})
			return err
		}},
		{"M2", "M20000FFF" + blockTDK.Cryptogram + "000812345678", "M3000008abcdefgh", func(ctx context.Context, on driver.Conversation) error {
			_, err := d.DecryptTrack(ctx, on, blockTDK, []byte("12345678"))
			return err
		}},
		{"KD", "KDFFF" + blockRoot.Cryptogram + "FFFS0011122334455667788#51T2B00S00", "KE00" + blockTMK.Cryptogram + kcv16,
			func(ctx context.Context, on driver.Conversation) error {
				_, err := d.Diversify(ctx, on, command.Diversification{Root: blockRoot, Usage: keys.TerminalMaster,
					Factors: [][8]byte{{0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88}}})
				return err
			}},
		{"SH", "SH00FFF" + blockCCK.Cryptogram + "FFF" + blockTMK.Cryptogram + "0413220100010304011122334400000000" + "0584D400001C",
			"SI000018AF2C76D7CF95F9001BED2C566AE2B13A1510E82C5FC282E65ADFF7A1", func(ctx context.Context, on driver.Conversation) error {
				_, err := d.ExportForCard(ctx, on, command.CardExport{Control: blockCCK, Key: blockTMK,
					Header: unhex(t, "13220100"), MACHeader: unhex(t, "84D400001C"), IV: unhex(t, "1122334400000000")})
				return err
			}},
		{"BU", "BUFFF" + blockZMK.Cryptogram + ";FFF;000", "BV00" + kcv16, func(ctx context.Context, on driver.Conversation) error {
			_, err := d.CheckValue(ctx, on, blockZMK)
			return err
		}},
		{"A8 as TR-31", "A8FFF" + blockZMK.Cryptogram + blockZPK.Cryptogram + "R", "A900" + tr31 + kcv16[:6], func(ctx context.Context, on driver.Conversation) error {
			got, err := d.ExportUnderZMK(ctx, on, blockZMK, blockZPK)
			if err == nil && (got.Cipher != tr31 || got.KCV != kcv16) {
				t.Errorf("got %+v", got)
			}
			return err
		}},
		{"A8 as variant", "A8FFF" + blockZMK.Cryptogram + blockMAK.Cryptogram + "U", "A900U" + hex32 + kcv16[:6], func(ctx context.Context, on driver.Conversation) error {
			_, err := with(t, "lmk=keyblock", "zone_form=variant").ExportUnderZMK(ctx, on, blockZMK, blockMAK)
			return err
		}},
	} {
		c.run(t)
	}
	s := &script{t: t, steps: [][2]string{
		{"A6FFF" + blockZMK.Cryptogram + tr31 + "S#72T2B00E00", "A701" + blockZPK.Cryptogram + kcv16[:6]}, // parity corrected
		{"BUFFF" + blockZPK.Cryptogram + ";FFF;000", "BV00" + kcv16},
	}}
	got, err := d.ImportUnderZMK(t.Context(), s, blockZMK, zone)
	if err != nil || got.Cryptogram != blockZPK.Cryptogram || got.Domain != "b" || got.KCV != kcv16 || got.Usage != keys.ZonePIN {
		t.Errorf("import: %s, %v", got, err)
	}
	s.done()
}

// A cryptogram of another form, usage or algorithm than the key claims is found out before anything is sent, and not shown.
func TestKeyBlockRefusals(t *testing.T) {
	t.Parallel()
	silent, ctx := &script{t: t}, t.Context()
	blocks, variant := with(t, "lmk=keyblock"), with(t)
	check := func(d *Driver, key keys.Wrapped) error { _, err := d.CheckValue(ctx, silent, key); return err }
	text := func(change func(string) string) error {
		key := blockZPK
		key.Cryptogram = change(key.Cryptogram)
		return check(blocks, key)
	}
	as := func(key keys.Wrapped, usage keys.Usage, algorithm keys.Algorithm) keys.Wrapped {
		key.Usage, key.Algorithm = usage, algorithm
		return key
	}
	mac := func(key keys.Wrapped, algorithm command.MACAlgorithm) error {
		_, err := blocks.MAC(ctx, silent, command.MACInput{Key: key, Algorithm: algorithm, Data: []byte("x")})
		return err
	}
	exportKey := func(d *Driver, zmk, key keys.Wrapped) error {
		_, err := d.ExportUnderZMK(ctx, silent, zmk, key)
		return err
	}
	importKey := func(d *Driver, zmk keys.Wrapped, key command.ZoneKey) error {
		_, err := d.ImportUnderZMK(ctx, silent, zmk, key)
		return err
	}
	for name, err := range map[string]error{
		"a PIN key that claims to be a MAK":    check(blocks, as(blockPIK, keys.MACKey, keys.TDES)),
		"an SM4 key that claims to be TDES":    check(blocks, as(blockPIK4, keys.PINKey, keys.TDES)),
		"a block cut short":                    text(func(s string) string { return s[:len(s)-1] }),
		"a block of another stated length":     text(func(s string) string { return strings.Replace(s, "10112", "10096", 1) }),
		"a length that is no number":           text(func(s string) string { return strings.Replace(s, "10112", "1 112", 1) }),
		"a version that is not known":          text(func(s string) string { return strings.Replace(s, "S1", "SD", 1) }),
		"a semicolon in the block":             text(func(s string) string { return s[:40] + ";" + s[41:] }),
		"the letter alone":                     text(func(string) string { return "S" }),
		"algorithm 3 with a key for 1":         mac(blockMAK, command.MACAlg3),
		"CMAC with a key for 3":                mac(blockSeal, command.MACCMAC),
		"export of a root":                     exportKey(blocks, blockZMK, blockRoot),
		"export of a ZMK":                      exportKey(blocks, blockZMK, blockZMK),
		"export under a ZPK":                   exportKey(blocks, blockZPK, blockPIK),
		"export of SM4 under TDES":             exportKey(blocks, blockZMK, blockPIK4),
		"import of a TR-31 block to a variant": importKey(variant, tdes(keys.ZoneMaster), command.ZoneKey{Usage: keys.ZonePIN, Algorithm: keys.TDES, Cipher: tr31}),
		"import of a cut TR-31 block":          importKey(blocks, blockZMK, command.ZoneKey{Usage: keys.ZonePIN, Algorithm: keys.TDES, Cipher: tr31[:80]}),
		"import of nothing":                    importKey(blocks, blockZMK, command.ZoneKey{Usage: keys.ZonePIN, Algorithm: keys.TDES}),
		"import of a root":                     importKey(blocks, blockZMK, command.ZoneKey{Usage: keys.Root, Algorithm: keys.TDES, Cipher: "U" + hex32}),
		"import of another usage":              importKey(blocks, blockZMK, command.ZoneKey{Algorithm: keys.TDES, Cipher: "U" + hex32}),
	} {
		var e *command.Error
		if !errors.As(err, &e) || e.Class != command.CallerFault || e.Code != "" {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if strings.Contains(err.Error(), "0123456789") {
			t.Errorf("%s: the error shows a cryptogram", name)
		}
	}
}

// A whole key of the other form is not the caller's fault, because the setting may be what is wrong: another member is asked.
func TestKeyOfTheOtherForm(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		driver *Driver
		key    keys.Wrapped
	}{
		"a variant key under a key-block LMK": {with(t, "lmk=keyblock"), tdes(keys.ZonePIN)},
		"a key block under a variant LMK":     {with(t), blockZPK},
	} {
		_, err := c.driver.CheckValue(t.Context(), &script{t: t}, c.key)
		var e *command.Error
		if !errors.As(err, &e) || e.Class != command.NoLicence || e.Code != "" || !strings.Contains(err.Error(), "its setting lmk does not fit the key") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// BW in its three directions, and what it must not do.
func TestTranslateLMK(t *testing.T) {
	t.Parallel()
	old := func(key keys.Wrapped) keys.Wrapped { key.Domain, key.KCV, key.Version = "old", kcv16, 7; return key }
	for name, c := range map[string]struct {
		d       *Driver
		key     keys.Wrapped
		request string
		out     string
	}{
		"variant to variant": {with(t, "old_domain=old"), old(tdes(keys.ZonePIN)), "BWFF1U" + hex32 + ";001;0U0", "U" + hex32b},
		"single":             {with(t, "old_domain=old"), old(des(keys.MACKey)), "BWFF0" + hex32[:16] + ";003;0Z0", hex32b[:16]},
		"variant to block":   {with(t, "old_domain=old", "lmk=keyblock"), old(tdes(keys.TerminalMaster)), "BWFF1U" + hex32 + ";80D;0S0#51T2B00S00", blockTMK.Cryptogram},
		"legacy type to block": {with(t, "old_domain=old", "lmk=keyblock", "legacy_types=true"), old(tdes(keys.TerminalMaster)),
			"BWFF1U" + hex32 + ";002;0S0#51T2B00S00", blockTMK.Cryptogram},
		"root to block":  {with(t, "old_domain=old", "lmk=keyblock"), old(tdes(keys.Root)), "BWFF1U" + hex32 + ";011;0S0#E7T2X00N00", blockRoot.Cryptogram},
		"block to block": {with(t, "old_domain=old", "lmk=keyblock"), old(blockZPK), "BWFFF" + blockZPK.Cryptogram + ";FFF;0S0", blockZPK.Cryptogram},
		"SM4 to block":   {with(t, "old_domain=old", "lmk=keyblock"), old(sm4(keys.ZoneMAC)), "BWFF1R" + hex32 + ";008;0S0#M141C00S00", blockText("M14C00S0")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			exchange{name, c.request, "BX00" + c.out + kcv16, func(ctx context.Context, on driver.Conversation) error {
				got, err := c.d.TranslateLMK(ctx, on, c.key, "new")
				if err == nil && (got.Cryptogram != c.out || got.Domain != "new" || got.KCV != kcv16 || got.Version != 7 || got.Usage != c.key.Usage || got.Algorithm != c.key.Algorithm) {
					t.Errorf("got %s", got)
				}
				return err
			}}.run(t)
		})
	}
	d := with(t, "old_domain=old")
	for name, c := range map[string]struct {
		d     *Driver
		key   keys.Wrapped
		to    string
		class command.Class
	}{
		"no old LMK":             {with(t), old(tdes(keys.ZonePIN)), "new", command.NoLicence},
		"another domain":         {d, tdes(keys.ZonePIN), "new", command.CallerFault},
		"to where it is":         {d, old(tdes(keys.ZonePIN)), "old", command.CallerFault},
		"from block to variant":  {d, old(blockZPK), "new", command.CallerFault},
		"nothing":                {d, keys.Wrapped{Domain: "old"}, "new", command.CallerFault},
		"a place in the device":  {d, keys.Wrapped{Domain: "old", Usage: keys.ZonePIN, Algorithm: keys.TDES, Cryptogram: "K0001"}, "new", command.CallerFault},
		"a cut variant key":      {d, keys.Wrapped{Domain: "old", Usage: keys.ZonePIN, Algorithm: keys.TDES, Cryptogram: "U" + hex32[1:]}, "new", command.CallerFault},
		"an algorithm of no key": {d, keys.Wrapped{Domain: "old", Usage: keys.ZonePIN, Algorithm: keys.AES, Cryptogram: "U" + hex32}, "new", command.CallerFault},
	} {
		if _, err := c.d.TranslateLMK(t.Context(), &script{t: t}, c.key, c.to); command.ClassOf(err) != c.class || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := &script{t: t, steps: [][2]string{{"BWFF1U" + hex32 + ";001;0U0", "BX00U" + hex32b + "FFFFFFFFFFFFFFFF"}}}
	if _, err := d.TranslateLMK(t.Context(), s, old(tdes(keys.ZonePIN)), "new"); command.ClassOf(err) != command.CallerFault || errors.Is(err, driver.ErrMalformed) {
		t.Errorf("another check value: %v", err)
	}
}
