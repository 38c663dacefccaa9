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

// FuzzAnswers gives hostile bytes to every parser through the capabilities: an answer is taken whole or refused with a classed
// error; nothing panics, and nothing of the wrong length comes out.
func FuzzAnswers(f *testing.F) {
	for _, seed := range []string{
		"", "ND0026860474449124220001-0900", "ND00268604744491242" + "2vvvvvvvvvvvvvvvvvvvvvvvvssssssssssss", "N10012345678", "BV00" + kcv16, "BV01" + kcv16, "BV10",
		"HD00X" + hex32b + "U" + hex32, "HB00" + hex32b[:16] + hex32[:16], "A100U" + hex32 + "X" + hex32b + kcv16[:6], "HD00R" + hex32b + "R" + hex32,
		"CB000491DDDA0A7C12CFAA01", "CD000491DDDA0A7C12CFAA01", "TJ000491DDDA0A7C12CFAA01", "CB20", "M700" + kcv16, "M900", "M901", "S100" + hex32,
		"M3000008abcdefgh", "KE00U" + hex32b + kcv16, "SI000018AF2C76D7CF95F9001BED2C566AE2B13A1510E82C5FC282E65ADFF7A1", "SI00zzzz", "M30000-1",
	} {
		f.Add([]byte(seed))
	}
	d := New(Options{})
	pan, err := secret.ParsePAN("4555000002532148")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		on, ctx := always(answer), t.Context()
		check := func(name string, err error, ok bool) {
			var e *command.Error
			switch {
			case err == nil && !ok:
				t.Errorf("%s: took an answer of the wrong size", name)
			case err != nil && !errors.As(err, &e):
				t.Errorf("%s: %v is not classed", name, err)
			case err != nil && e.Code == "" && !errors.Is(err, driver.ErrMalformed):
				t.Errorf("%s: %v has neither code nor cause", name, err)
			}
		}
		diagnosis, err := d.Diagnose(ctx, on)
		check("NC", err, len(diagnosis.LMKCheck) == 16 && diagnosis.Firmware != "")
		random, err := d.Random(ctx, on, 8)
		check("N0", err, len(random) == 8)
		kcv, err := d.CheckValue(ctx, on, tdes(keys.MACKey))
		check("BU", err, len(kcv) == 16)
		for _, alg := range []keys.Algorithm{keys.DES, keys.TDES, keys.SM4} {
			m, err := parsePair(cmdHC, answer, alg)
			check("HC", err, len(m.underMaster) == keyBytes(alg) && m.cryptogram != "")
			m, err = parsePair(cmdHA, answer, alg)
			check("HA", err, len(m.underMaster) == keyBytes(alg))
			m, err = parseA1(answer, alg)
			check("A0", err, len(m.kcv) == 6)
			for _, cmd := range []string{cmdCA, cmdCC, cmdTI} {
				block, err := parsePIN(cmd, answer, alg, "01")
				check(cmd, err, block.Len() == blockBytes(alg))
			}
		}
		mac, err := d.MAC(ctx, on, command.MACInput{Key: tdes(keys.MACKey), Algorithm: command.MACAlg1, Data: []byte("x")})
		check("M6", err, len(mac) == 8)
		mac, err = d.MAC(ctx, on, command.MACInput{Key: sm4(keys.MACKey), Algorithm: command.MACSM4CBC, Data: []byte("x")})
		check("S0", err, len(mac) == 16)
		_, err = d.VerifyMAC(ctx, on, command.MACInput{Key: tdes(keys.MACKey), Algorithm: command.MACAlg1, Data: []byte("x")}, make([]byte, 4))
		check("M8", err, true)
		track, err := d.DecryptTrack(ctx, on, tdes(keys.TrackKey), make([]byte, 8))
		check("M2", err, track.Len() == 8)
		child, err := d.Diversify(ctx, on, command.Diversification{Root: tdes(keys.Root), Usage: keys.TerminalMaster, Factors: make([][8]byte, 1)})
		check("KD", err, len(child.Cryptogram) == 33 && len(child.KCV) == 16)
		script, err := d.ExportForCard(ctx, on, command.CardExport{Control: tdes(keys.CardControl), Key: tdes(keys.TerminalMaster), Header: make([]byte, 4), IV: make([]byte, 8)})
		check("SH", err, len(script.Cipher) == 24 && len(script.MAC) == 4)
		_, err = d.TranslatePIN(ctx, on, command.PINTranslation{From: tdes(keys.PINKey), To: tdes(keys.ZonePIN), FromFormat: command.PINISO0,
			ToFormat: command.PINISO0, Block: secret.New(make([]byte, 8)), PAN: pan})
		check("CA", err, true)
	})
}
