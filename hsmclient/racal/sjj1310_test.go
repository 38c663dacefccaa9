package racal

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
)

// The forms of the Chinese set (facts/hsm.md §1.7.3).
func TestChineseRequests(t *testing.T) {
	t.Parallel()
	d := with(t, "variant_set=sjj1310")
	pan, err := secret.ParsePAN("4555000002532148")
	if err != nil {
		t.Fatal(err)
	}
	mac := func(key keys.Wrapped, algorithm command.MACAlgorithm) call {
		return func(ctx context.Context, on driver.Conversation) error {
			_, err := d.MAC(ctx, on, command.MACInput{Key: key, Algorithm: algorithm, Data: []byte("abc")})
			return err
		}
	}
	zero16 := strings.Repeat("0", 16)
	for _, c := range []exchange{
		{"S0 DES", "S00108003" + hex32[:16] + "0000020003abc" + zero16, "S100" + kcv16, mac(des(keys.MACKey), command.MACAlg1)},
		{"S0 retail", "S00308008U" + hex32 + "0000020003abc" + zero16, "S100" + kcv16, mac(tdes(keys.ZoneMAC), command.MACAlg3)},
		{"S0 CMAC", "S00608008U" + hex32 + "0000020003abc" + zero16, "S100" + kcv16, mac(tdes(keys.Seal), command.MACCMAC)},
		{"S0 SM4", "S00110003R" + hex32 + "0000020003abc" + zero16 + zero16, "S100" + hex32, mac(sm4(keys.MACKey), command.MACSM4CBC)},
		{"S0 with a stored key", "S001080" + "03K0042" + "0000020003abc" + zero16, "S100" + kcv16,
			mac(keys.Wrapped{Usage: keys.MACKey, Algorithm: keys.TDES, Cryptogram: "K0042"}, command.MACAlg1)},
		{"S4", "S40000BU" + hex32 + "000005000812345678", "S5000008abcdefgh", func(ctx context.Context, on driver.Conversation) error {
			_, err := d.DecryptTrack(ctx, on, tdes(keys.TrackKey), []byte("12345678"))
			return err
		}},
		{"TI", "TI1U" + hex32 + "2U" + hex32 + "126428EB94035AF53B0150000025321401500000253214", "TJ000491DDDA0A7C12CFAA01", func(ctx context.Context, on driver.Conversation) error {
			_, err := d.TranslatePIN(ctx, on, command.PINTranslation{From: tdes(keys.PINKey), To: tdes(keys.ZonePIN), FromFormat: command.PINISO0,
				ToFormat: command.PINISO0, Block: secret.New(unhex(t, "6428EB94035AF53B")), PAN: pan})
			return err
		}},
		{"CR", "CR0008", "CS0012345678", func(ctx context.Context, on driver.Conversation) error { _, err := d.Random(ctx, on, 8); return err }},
	} {
		c.run(t)
	}
	// A MAC that is compared here: right, wrong, and a length that no command would take.
	for expect, ok := range map[string]bool{kcv16: true, kcv16[:8]: true, "08D7B4FB629D0886": false} {
		s := &script{t: t, steps: [][2]string{{"S00108003U" + hex32 + "0000020003abc" + zero16, "S100" + kcv16}}}
		got, err := d.VerifyMAC(t.Context(), s, command.MACInput{Key: tdes(keys.MACKey), Algorithm: command.MACAlg1, Data: []byte("abc")}, unhex(t, expect))
		if err != nil || got != ok {
			t.Errorf("%s: %v, %v", expect, got, err)
		}
	}
	// Working keys are made by A0, whose check value may be whole here.
	s := &script{t: t, steps: [][2]string{
		{"A0170DU;1U" + hex32 + "X", "A100U" + hex32 + "X" + hex32b + kcv16}, {"BU7D1U" + hex32 + ";000", "BV00" + kcv16},
	}}
	if got, err := d.MakeWorkKey(t.Context(), s, command.WorkKey{Master: tdes(keys.TerminalMaster), Usage: keys.PINKey, Algorithm: keys.TDES}); err != nil || got.Key.KCV != kcv16 {
		t.Errorf("work key: %v", err)
	}
	s.done()
}

// A key is stored in the first empty place from that of its label on; nothing is overwritten, and a label is used once.
func TestStoreKey(t *testing.T) {
	t.Parallel()
	d := with(t, "variant_set=sjj1310")
	req := command.NewKey{Label: "seal-2026", Usage: keys.Seal, Algorithm: keys.TDES}
	at := firstPlace(req.Label)
	ask := func(i int) string { return fmt.Sprintf("KG%04d", i) }
	store := func(i int) string { return fmt.Sprintf("KR008UK%04d09seal-2026", i) }
	made := "KS00U" + hex32 + kcv16
	other := "KH00008U" + kcv16 + "05other20261122000000"
	mine := "KH00008U" + kcv16 + "09seal-202620261122000000"
	for name, c := range map[string]struct {
		steps [][2]string
		place int
	}{
		"the first":       {[][2]string{{ask(at), "KH12"}, {store(at), made}}, at},
		"the next":        {[][2]string{{ask(at), other}, {ask(at + 1), "KH12"}, {store(at + 1), made}}, at + 1},
		"another quicker": {[][2]string{{ask(at), "KH12"}, {store(at), "KS21"}, {ask(at + 1), "KH12"}, {store(at + 1), made}}, at + 1},
		"the label twice": {[][2]string{{ask(at), other}, {ask(at + 1), mine}}, 0},
		"a fault":         {[][2]string{{ask(at), "KH41"}}, 0},
	} {
		s := &script{t: t, steps: c.steps}
		got, err := d.StoreKey(t.Context(), s, req)
		s.done()
		if (err == nil) != (c.place > 0) || err == nil && (got.Cryptogram != fmt.Sprintf("K%04d", c.place) || got.KCV != kcv16 || got.Usage != keys.Seal) {
			t.Errorf("%s: %s %q, %v", name, got, got.Cryptogram, err)
		}
	}
	full := make([][2]string, 0, storeTries)
	for i := range storeTries {
		full = append(full, [2]string{ask((at+i-1)%lastIndex + 1), other})
	}
	if _, err := d.StoreKey(t.Context(), &script{t: t, steps: full}, req); command.ClassOf(err) != command.CallerFault {
		t.Errorf("full: %v", err)
	}
	for name, bad := range map[string]command.NewKey{
		"no label":       {Usage: keys.Seal, Algorithm: keys.TDES},
		"a long label":   {Label: strings.Repeat("x", 33), Usage: keys.Seal, Algorithm: keys.TDES},
		"a bad label":    {Label: "a b", Usage: keys.Seal, Algorithm: keys.TDES},
		"no usage":       {Label: "a", Algorithm: keys.TDES},
		"another cipher": {Label: "a", Usage: keys.Seal, Algorithm: keys.AES},
	} {
		if _, err := d.StoreKey(t.Context(), &script{t: t}, bad); command.ClassOf(err) != command.CallerFault || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
