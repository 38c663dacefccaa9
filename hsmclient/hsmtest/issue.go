package hsmtest

import (
	"context"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/internal/vectors"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/kcv"
	"github.com/keyward/keyward/keys/pboc"
	"github.com/keyward/keyward/keys/secret"
)

func diversify(t *testing.T, ctx context.Context, f Fixture) {
	factors := [][8]byte{{0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88}, {1, 2, 3, 4, 5, 6, 7, 8}, {0xA1, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7, 0xA8}}
	for _, algorithm := range []keys.Algorithm{keys.TDES, keys.SM4} {
		root := f.wrap(t, keys.Root, algorithm, masterKey)
		for levels := 1; levels <= len(factors); levels++ {
			want := childKCV(t, algorithm, masterKey, factors[:levels]...)
			for _, usage := range []keys.Usage{keys.TerminalMaster, keys.CardControl} {
				got, err := f.Client.Diversify(ctx, command.Diversification{Root: root, Usage: usage, Factors: factors[:levels]})
				if err != nil || !got.KCV.Matches(want) || got.Usage != usage || got.Algorithm != algorithm || got.Domain != f.Domain {
					t.Errorf("%s, %d levels: got %s (%v), want check value %s", algorithm, levels, got, err, want)
					continue
				}
				if check, err := f.Client.CheckValue(ctx, got); err != nil || check != got.KCV {
					t.Errorf("%s, %d levels: the child under the LMK has %s (%v)", algorithm, levels, check, err)
				}
			}
		}
	}
	root := f.wrap(t, keys.Root, keys.TDES, masterKey)
	zone := f.wrap(t, keys.ZoneMAC, keys.TDES, zoneKey)
	for what, req := range map[string]command.Diversification{
		"no factor":            {Root: root, Usage: keys.TerminalMaster},
		"nine factors":         {Root: root, Usage: keys.TerminalMaster, Factors: make([][8]byte, 9)},
		"a root key to itself": {Root: root, Usage: keys.Root, Factors: factors[:1]},
		"a PIN key":            {Root: root, Usage: keys.PINKey, Factors: factors[:1]},
		"from a zone key":      {Root: zone, Usage: keys.TerminalMaster, Factors: factors[:1]},
	} {
		_, err := f.Client.Diversify(ctx, req)
		wantClass(t, what, err, command.CallerFault)
	}
}

func diversifyVectors(t *testing.T, ctx context.Context, f Fixture) {
	file := vectors.Load(t, "keyderiv.json")
	for group, algorithm := range map[string]keys.Algorithm{"pboc_tdes": keys.TDES, "pboc_sm4": keys.SM4} {
		for _, v := range file.Group(t, group) {
			var factors [][8]byte
			list, _ := v.In["factors"].([]any)
			for _, text := range list {
				factors = append(factors, [8]byte(unhex(t, text.(string))))
			}
			master := vectors.Str(v.In, "mk")
			if strings.Trim(master, "0") == "" {
				continue // devices refuse a key of zeros
			}
			got, err := f.Client.Diversify(ctx, command.Diversification{
				Root: f.wrap(t, keys.Root, algorithm, master), Usage: keys.TerminalMaster, Factors: factors,
			})
			if err != nil || !strings.HasPrefix(string(got.KCV), vectors.Str(v.Out, "kcv")) {
				t.Errorf("%s: got %s (%v)", v.ID, got, err)
			}
		}
	}
}

func childKCV(t *testing.T, algorithm keys.Algorithm, root string, factors ...[8]byte) keys.KCV {
	t.Helper()
	child, err := pboc.Derive(algorithm, secret.New(unhex(t, root)), factors...)
	if err != nil {
		t.Fatal(err)
	}
	check, err := kcv.Of(algorithm, child)
	if err != nil {
		t.Fatal(err)
	}
	return check
}

// exportForCard: the card commands of facts/psam.md §3.2, byte for byte.
func exportForCard(t *testing.T, ctx context.Context, f Fixture) {
	const control = "404142434445464748494A4B4C4D4E4F"
	export := func(algorithm keys.Algorithm, header, macHeader, iv string) command.CardExport {
		return command.CardExport{
			Control: f.wrap(t, keys.CardControl, algorithm, control), Key: f.wrap(t, keys.TerminalMaster, algorithm, masterKey),
			Header: unhex(t, header), MACHeader: unhex(t, macHeader), IV: unhex(t, iv),
		}
	}
	for _, c := range []struct {
		name, cipher, mac string
		req               command.CardExport
	}{
		{"TDES", "AF2C76D7CF95F9001BED2C566AE2B13A1510E82C5FC282E6", "5ADFF7A1", export(keys.TDES, "13220100", "84D400001C", "1122334400000000")},
		{"SM4", "C7E204E5F1E5920880104522AA8F5A18FC488BAAB07B8B39865B89D58FAD0DF8", "1DFE4E45",
			export(keys.SM4, "13624104", "84D4000024", "11223344000000000000000000000000")},
	} {
		got, err := f.Client.ExportForCard(ctx, c.req)
		if err != nil || !strings.EqualFold(hex.EncodeToString(got.Cipher), c.cipher) || !strings.EqualFold(hex.EncodeToString(got.MAC), c.mac) {
			t.Errorf("%s: not the card command of the fact file (%v)", c.name, err)
		}
	}
	good := export(keys.TDES, "13220100", "84D400001C", "1122334400000000")
	with := func(change func(*command.CardExport)) command.CardExport { r := good; change(&r); return r }
	for what, req := range map[string]command.CardExport{
		"under a TMK":            with(func(r *command.CardExport) { r.Control = r.Key }),
		"a zone key":             with(func(r *command.CardExport) { r.Key = f.wrap(t, keys.ZonePIN, keys.TDES, zoneKey) }),
		"a root key":             with(func(r *command.CardExport) { r.Key = f.wrap(t, keys.Root, keys.TDES, zoneKey) }),
		"a header of 5":          with(func(r *command.CardExport) { r.Header = make([]byte, 5) }),
		"a false length in LD":   with(func(r *command.CardExport) { r.Header = []byte{0x0B, 0x22, 1, 0} }),
		"an IV of 4":             with(func(r *command.CardExport) { r.IV = make([]byte, 4) }),
		"an SM4 key under a TMK": with(func(r *command.CardExport) { r.Key = f.wrap(t, keys.TerminalMaster, keys.SM4, masterKey) }),
	} {
		_, err := f.Client.ExportForCard(ctx, req)
		wantClass(t, "export "+what, err, command.CallerFault)
	}
}
