package racal

import (
	"context"
	"errors"
	"testing"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
)

// always answers every request with the same bytes.
type always []byte

func (a always) Exchange(context.Context, []byte) ([]byte, error) {
	return append([]byte(nil), a...), nil
}

func (always) Do(context.Context, string, int, func(context.Context, driver.Channel) (int, string, error)) error {
	return nil
}

// FuzzAnswers gives hostile bytes to every parser through the capabilities, with each form of keys and set of commands: an answer is
// taken whole or refused with a classed error; nothing panics, and nothing of the wrong length comes out.
func FuzzAnswers(f *testing.F) {
	for _, seed := range []string{
		"", "ND0026860474449124220001-0900", "ND00268604744491242" + "2vvvvvvvvvvvvvvvvvvvvvvvvssssssssssss", "N10012345678", "CS0012345678", "BV00" + kcv16, "BV01" + kcv16, "BV10",
		"HD00X" + hex32b + "U" + hex32, "HB00" + hex32b[:16] + hex32[:16], "A100U" + hex32 + "X" + hex32b + kcv16[:6], "HD00R" + hex32b + "R" + hex32,
		"A100" + blockPIK.Cryptogram + "X" + hex32b + kcv16[:6], "A100S99990", "A100S1000072",
		"CB000491DDDA0A7C12CFAA01", "CD000491DDDA0A7C12CFAA01", "TJ000491DDDA0A7C12CFAA01", "CB20", "M700" + kcv16, "M900", "M901", "S100" + hex32,
		"M3000008abcdefgh", "S5000008abcdefgh", "KE00U" + hex32b + kcv16, "KE00" + blockTMK.Cryptogram + kcv16, "SI000018AF2C76D7CF95F9001BED2C566AE2B13A1510E82C5FC282E65ADFF7A1",
		"SI00zzzz", "M30000-1", "A900" + tr31 + kcv16[:6], "A900U" + hex32 + kcv16[:6], "A701" + blockZPK.Cryptogram + kcv16[:6], "BX00" + blockZPK.Cryptogram + kcv16,
		"KH00008U" + kcv16 + "09seal-202620261122000000", "KH12", "KS00U" + hex32 + kcv16, "KS21", "JL00S000000123450261121235959", "JL68", "NP0031640001-090000000", "B300KEYWARD!",
	} {
		f.Add([]byte(seed))
	}
	pan, err := secret.ParsePAN("4555000002532148")
	if err != nil {
		f.Fatal(err)
	}
	drivers := []fuzzed{
		{with(f, "old_domain=old"), tdes, sm4},
		{with(f, "variant_set=sjj1310", "zone_form=plain", "old_domain=old"), tdes, sm4},
		{with(f, "lmk=keyblock", "old_domain=old"), fuzzBlocks("T"), fuzzBlocks("4")},
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		for _, d := range drivers {
			d.parse(t, answer, pan)
		}
	})
}

// fuzzed is a driver with the keys that fit it.
type fuzzed struct {
	d         *Driver
	tdes, sm4 func(keys.Usage) keys.Wrapped
}

// fuzzBlocks makes key blocks of the algorithm.
func fuzzBlocks(algorithm string) func(keys.Usage) keys.Wrapped {
	alg := map[string]keys.Algorithm{"T": keys.TDES, "4": keys.SM4}[algorithm]
	return func(usage keys.Usage) keys.Wrapped {
		a := blockForm{}.attributes(usage, alg)
		return keys.Wrapped{Usage: usage, Algorithm: alg, Domain: "d", Cryptogram: blockText(a[1:3] + algorithm + a[5:6] + "00" + a[8:9] + "0")}
	}
}

func (z fuzzed) parse(t *testing.T, answer []byte, pan secret.PAN) {
	d, on, ctx := z.d, always(answer), t.Context()
	check := func(name string, err error, ok bool) {
		t.Helper()
		var e *command.Error
		switch {
		case err == nil && !ok:
			t.Errorf("%s: took an answer of the wrong size", name)
		case err != nil && !errors.As(err, &e):
			t.Errorf("%s: %v is not classed", name, err)
		case err != nil && e.Code == "" && !errors.Is(err, driver.ErrMalformed) && e.Class != command.CallerFault:
			t.Errorf("%s: %v has neither code nor cause", name, err)
		}
	}
	diagnosis, err := d.Diagnose(ctx, on)
	check("NC", err, len(diagnosis.LMKCheck) == 16)
	for name := range probes {
		check(name, d.Probe(ctx, on, name), true)
	}
	_, err = parseJL(answer)
	check("JK", err, true)
	random, err := d.Random(ctx, on, 8)
	check("random", err, len(random) == 8)
	kcv, err := d.CheckValue(ctx, on, z.tdes(keys.MACKey))
	check("BU", err, len(kcv) == 16)
	for _, alg := range []keys.Algorithm{keys.DES, keys.TDES, keys.SM4} {
		m, err := parsePair(cmdHC, answer, alg)
		check("HC", err, len(m.underMaster) == keyBytes(alg) && m.cryptogram != "")
		m, err = parsePair(cmdHA, answer, alg)
		check("HA", err, len(m.underMaster) == keyBytes(alg))
		m, err = d.parseA1(answer, keys.PINKey, alg)
		check("A0", err, (len(m.kcv) == 6 || len(m.kcv) == 16) && m.cryptogram != "")
		for _, cmd := range []string{cmdCA, cmdCC, cmdTI} {
			block, err := parsePIN(cmd, answer, alg, "01")
			check(cmd, err, block.Len() == blockBytes(alg))
		}
	}
	for _, key := range []keys.Wrapped{z.tdes(keys.MACKey), z.sm4(keys.MACKey)} {
		alg := command.MACAlg1
		if key.Algorithm == keys.SM4 {
			alg = command.MACSM4CBC
		}
		in := command.MACInput{Key: key, Algorithm: alg, Data: []byte("x")}
		mac, err := d.MAC(ctx, on, in)
		check("MAC", err, len(mac) == blockBytes(key.Algorithm))
		_, err = d.VerifyMAC(ctx, on, in, make([]byte, 4))
		check("verify", err, true)
	}
	track, err := d.DecryptTrack(ctx, on, z.tdes(keys.TrackKey), make([]byte, 8))
	check("track", err, track.Len() == 8)
	child, err := d.Diversify(ctx, on, command.Diversification{Root: z.tdes(keys.Root), Usage: keys.TerminalMaster, Factors: make([][8]byte, 1)})
	check("KD", err, len(child.KCV) == 16 && d.form.fits(child))
	script, err := d.ExportForCard(ctx, on, command.CardExport{Control: z.tdes(keys.CardControl), Key: z.tdes(keys.TerminalMaster), Header: make([]byte, 4), IV: make([]byte, 8)})
	check("SH", err, len(script.Cipher) == 24 && len(script.MAC) == 4)
	_, err = d.TranslatePIN(ctx, on, command.PINTranslation{From: z.tdes(keys.PINKey), To: z.tdes(keys.ZonePIN), FromFormat: command.PINISO0,
		ToFormat: command.PINISO0, Block: secret.New(make([]byte, 8)), PAN: pan})
	check("PIN", err, true)
	zone, err := d.ExportUnderZMK(ctx, on, z.tdes(keys.ZoneMaster), z.tdes(keys.ZonePIN))
	check("A8", err, zone.Cipher != "" && len(zone.KCV) >= 6)
	_, err = d.ImportUnderZMK(ctx, on, z.tdes(keys.ZoneMaster), command.ZoneKey{Usage: keys.ZonePIN, Algorithm: keys.TDES, Cipher: "U" + hex32})
	check("A6", err, false) // no one answer is right for A6 and BU
	_, _, err = d.parseA7(answer, keys.ZonePIN, keys.TDES)
	check("A6", err, true)
	old := tdes(keys.ZonePIN)
	old.Domain = "old"
	moved, err := d.TranslateLMK(ctx, on, old, "new")
	check("BW", err, len(moved.KCV) == 16 && d.form.fits(moved))
	label, err := parseKH(answer)
	check("KG", err, len(label) < 100)
	stored, err := parseKS(answer, d.form.scheme(keys.TDES))
	check("KR", err, len(stored) == 16)
}
