package racal

import (
	"context"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
)

// script is a device that expects requests and gives canned answers.
type script struct {
	t     *testing.T
	steps [][2]string // request, answer
	at    int
}

func (s *script) Exchange(_ context.Context, request []byte) ([]byte, error) {
	s.t.Helper()
	if s.at >= len(s.steps) {
		s.t.Fatalf("unexpected request %q", request)
	}
	step := s.steps[s.at]
	s.at++
	if string(request) != step[0] {
		s.t.Fatalf("request %d:\n got %q\nwant %q", s.at, request, step[0])
	}
	return []byte(step[1]), nil
}

func (*script) Do(context.Context, string, int, func(context.Context, driver.Channel) (int, string, error)) error {
	return nil
}

func (s *script) done() {
	s.t.Helper()
	if s.at != len(s.steps) {
		s.t.Fatalf("%d of %d requests were sent", s.at, len(s.steps))
	}
}

const (
	hex32  = "0123456789ABCDEFFEDCBA9876543210"
	hex32b = "00112233445566778899AABBCCDDEEFF"
	kcv16  = "08D7B4FB629D0885"
)

func tdes(usage keys.Usage) keys.Wrapped {
	return keys.Wrapped{Usage: usage, Algorithm: keys.TDES, Domain: "d", Cryptogram: "U" + hex32}
}

func sm4(usage keys.Usage) keys.Wrapped {
	return keys.Wrapped{Usage: usage, Algorithm: keys.SM4, Domain: "d", Cryptogram: "R" + hex32}
}

func des(usage keys.Usage) keys.Wrapped {
	return keys.Wrapped{Usage: usage, Algorithm: keys.DES, Domain: "d", Cryptogram: hex32[:16]}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The bytes of every request, as docs/hsm-sim.md §5 and facts/hsm.md §1 lay them out.
func TestWorkKeyBytes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		req   command.WorkKey
		steps [][2]string
		want  string // cryptogram
		under string
	}{
		{"PIN key", command.WorkKey{Master: tdes(keys.TerminalMaster), Usage: keys.PINKey, Algorithm: keys.TDES}, [][2]string{
			{"HCU" + hex32 + ";XU0", "HD00X" + hex32b + "U" + hex32},
			{"BU7D1U" + hex32 + ";000", "BV00" + kcv16},
		}, "U" + hex32, hex32b},
		{"MAC key", command.WorkKey{Master: tdes(keys.TerminalMaster), Usage: keys.MACKey, Algorithm: keys.TDES}, [][2]string{
			{"HAU" + hex32 + ";XU0", "HB00X" + hex32b + "U" + hex32},
			{"BU031U" + hex32 + ";000", "BV00" + kcv16},
		}, "U" + hex32, hex32b},
		{"single MAC key", command.WorkKey{Master: tdes(keys.TerminalMaster), Usage: keys.MACKey, Algorithm: keys.DES}, [][2]string{
			{"HAU" + hex32 + ";ZZ0", "HB00" + hex32b[:16] + hex32[:16]},
			{"BU030" + hex32[:16] + ";000", "BV00" + kcv16},
		}, hex32[:16], hex32b[:16]},
		{"track key", command.WorkKey{Master: tdes(keys.TerminalMaster), Usage: keys.TrackKey, Algorithm: keys.TDES}, [][2]string{
			{"A0130BU;1U" + hex32 + "X", "A100U" + hex32 + "X" + hex32b + kcv16[:6]},
			{"BU3B1U" + hex32 + ";000", "BV01" + kcv16}, // parity advice
		}, "U" + hex32, hex32b},
		{"SM4 PIN key", command.WorkKey{Master: sm4(keys.TerminalMaster), Usage: keys.PINKey, Algorithm: keys.SM4}, [][2]string{
			{"HCR" + hex32 + ";RR0", "HD00R" + hex32b + "R" + hex32},
			{"BU7D1R" + hex32 + ";000", "BV00" + kcv16},
		}, "R" + hex32, hex32b},
		{"SM4 track key", command.WorkKey{Master: sm4(keys.TerminalMaster), Usage: keys.TrackKey, Algorithm: keys.SM4}, [][2]string{
			{"A0130BR;1R" + hex32 + "R", "A100R" + hex32 + "R" + hex32b + kcv16[:6]},
			{"BU3B1R" + hex32 + ";000", "BV00" + kcv16},
		}, "R" + hex32, hex32b},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := &script{t: t, steps: c.steps}
			got, err := with(t).MakeWorkKey(t.Context(), s, c.req)
			if err != nil {
				t.Fatal(err)
			}
			s.done()
			if got.Key.Cryptogram != c.want || got.Key.KCV != kcv16 || got.Key.Usage != c.req.Usage || got.Key.Domain != "d" ||
				!strings.EqualFold(hex.EncodeToString(got.UnderMaster), c.under) {
				t.Errorf("wrong result: %s, %d bytes under the master", got.Key, len(got.UnderMaster))
			}
		})
	}
}

func TestLegacyTypes(t *testing.T) {
	t.Parallel()
	s := &script{t: t, steps: [][2]string{{"BU021U" + hex32 + ";000", "BV00" + kcv16}}}
	if _, err := with(t, "legacy_types=true").CheckValue(t.Context(), s, tdes(keys.PINKey)); err != nil {
		t.Fatal(err)
	}
	s.done()
}

func TestRequestBytes(t *testing.T) {
	t.Parallel()
	d := with(t)
	pan, err := secret.ParsePAN("4555000002532148")
	if err != nil {
		t.Fatal(err)
	}
	block8, block16 := secret.New(unhex(t, "6428EB94035AF53B")), secret.New(unhex(t, hex32b))
	zone := tdes(keys.ZonePIN)
	pin := func(req command.PINTranslation) call {
		return func(ctx context.Context, on driver.Conversation) error {
			_, err := d.TranslatePIN(ctx, on, req)
			return err
		}
	}
	mac := func(in command.MACInput) call {
		return func(ctx context.Context, on driver.Conversation) error { _, err := d.MAC(ctx, on, in); return err }
	}
	verify := func(in command.MACInput, expect string) call {
		return func(ctx context.Context, on driver.Conversation) error {
			_, err := d.VerifyMAC(ctx, on, in, unhex(t, expect))
			return err
		}
	}
	check := func(key keys.Wrapped) call {
		return func(ctx context.Context, on driver.Conversation) error {
			_, err := d.CheckValue(ctx, on, key)
			return err
		}
	}
	for _, c := range []exchange{
		{"CA", "CAU" + hex32 + "U" + hex32 + "126428EB94035AF53B0101500000253214", "CB000491DDDA0A7C12CFAA01",
			pin(command.PINTranslation{From: tdes(keys.PINKey), To: zone, FromFormat: command.PINISO0, ToFormat: command.PINISO0, Block: block8, PAN: pan})},
		{"CC", "CCU" + hex32 + "U" + hex32 + "126428EB94035AF53B0101500000253214", "CD000491DDDA0A7C12CFAA01",
			pin(command.PINTranslation{From: zone, To: zone, FromFormat: command.PINISO0, ToFormat: command.PINISO0, Block: block8, PAN: pan})},
		{"TI", "TI1R" + hex32 + "2U" + hex32 + "12" + hex32b + "9150000025321401500000253214", "TJ000491DDDA0A7C12CFAA01",
			pin(command.PINTranslation{From: sm4(keys.PINKey), To: zone, FromFormat: command.PINSM4Wide, ToFormat: command.PINISO0, Block: block16, PAN: pan})},
		{"TI padded", "TI1R" + hex32 + "2U" + hex32 + "12" + hex32b + "9350000025321401500000253214", "TJ000491DDDA0A7C12CFAA01",
			pin(command.PINTranslation{From: sm4(keys.PINKey), To: zone, FromFormat: command.PINSM4Padded, ToFormat: command.PINISO0, Block: block16, PAN: pan})},
		{"M6", "M600111003U" + hex32 + "0003abc", "M700" + kcv16, mac(command.MACInput{Key: tdes(keys.MACKey), Algorithm: command.MACAlg1, Data: []byte("abc")})},
		{"M6 alg 3", "M600131008U" + hex32 + "0003abc", "M700" + kcv16, mac(command.MACInput{Key: tdes(keys.Seal), Algorithm: command.MACAlg3, Data: []byte("abc")})},
		{"S0", "S00110003R" + hex32 + "0000020003abc" + strings.Repeat("0", 32), "S100" + hex32, mac(command.MACInput{Key: sm4(keys.MACKey), Algorithm: command.MACSM4CBC, Data: []byte("abc")})},
		{"M8 half", "M800011003U" + hex32 + "0003abc01020304", "M900", verify(command.MACInput{Key: tdes(keys.MACKey), Algorithm: command.MACAlg1, Data: []byte("abc")}, "01020304")},
		{"M8 whole", "M800111003" + hex32[:16] + "0003abc0102030405060708", "M901",
			verify(command.MACInput{Key: des(keys.MACKey), Algorithm: command.MACAlg1, Data: []byte("abc")}, "0102030405060708")},
		{"M2", "M2000030BU" + hex32 + "000812345678", "M3000008abcdefgh", func(ctx context.Context, on driver.Conversation) error {
			_, err := d.DecryptTrack(ctx, on, tdes(keys.TrackKey), []byte("12345678"))
			return err
		}},
		{"KD", "KD011U" + hex32 + "80DU00211223344556677880102030405060708", "KE00U" + hex32b + kcv16, func(ctx context.Context, on driver.Conversation) error {
			_, err := d.Diversify(ctx, on, command.Diversification{Root: tdes(keys.Root), Usage: keys.TerminalMaster,
				Factors: [][8]byte{{0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88}, {1, 2, 3, 4, 5, 6, 7, 8}}})
			return err
		}},
		{"SH", "SH00309U" + hex32 + "80DU" + hex32 + "0413220100010304011122334400000000" + "0584D400001C", "SI000018AF2C76D7CF95F9001BED2C566AE2B13A1510E82C5FC282E65ADFF7A1",
			func(ctx context.Context, on driver.Conversation) error {
				got, err := d.ExportForCard(ctx, on, command.CardExport{Control: tdes(keys.CardControl), Key: tdes(keys.TerminalMaster),
					Header: unhex(t, "13220100"), MACHeader: unhex(t, "84D400001C"), IV: unhex(t, "1122334400000000")})
				if err == nil && (len(got.Cipher) != 24 || hex.EncodeToString(got.MAC) != "5adff7a1") {
					t.Error("wrong script")
				}
				return err
			}},
		{"BU of a root key", "BUFF1U" + hex32 + ";011;000", "BV00" + kcv16, check(tdes(keys.Root))},
		{"BU of a single key", "BU080" + hex32[:16] + ";000", "BV00" + kcv16, check(des(keys.ZoneMAC))},
		{"N0", "N0008", "N10012345678", func(ctx context.Context, on driver.Conversation) error { _, err := d.Random(ctx, on, 8); return err }},
		{"NC", "NC", "ND0026860474449124220001-0900", func(ctx context.Context, on driver.Conversation) error { return d.Probe(ctx, on, "") }},
	} {
		c.run(t)
	}
}

type call func(ctx context.Context, on driver.Conversation) error

// exchange is a call that sends one request and takes one answer.
type exchange struct {
	name, request, answer string
	call                  call
}

func (c exchange) run(t *testing.T) {
	t.Helper()
	t.Run(c.name, func(t *testing.T) {
		t.Parallel()
		s := &script{t: t, steps: [][2]string{{c.request, c.answer}}}
		if err := c.call(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		s.done()
		refuseBadAnswers(t, c.request, c.answer, c.call)
	})
}

// refuseBadAnswers tries what must never be taken for an answer: every cut, every appendix, the codes of another command.
func refuseBadAnswers(t *testing.T, request, answer string, call func(context.Context, driver.Conversation) error) {
	t.Helper()
	bad := []string{"", answer + "0", "ZZ" + answer[2:], answer[:2] + "0?" + answer[4:], answer[:2] + "15" + "rest"}
	for n := range answer {
		// A cut right behind a code other than 00 is a whole answer.
		if answer[2:headLen] == codeOK {
			bad = append(bad, answer[:n])
		}
	}
	for _, b := range bad {
		err := call(t.Context(), &script{t: t, steps: [][2]string{{request, b}}})
		if !errors.Is(err, driver.ErrMalformed) || command.ClassOf(err) != command.MemberFault {
			t.Errorf("%d bytes of an answer of %d: %v", len(b), len(answer), err)
		}
	}
	err := call(t.Context(), &script{t: t, steps: [][2]string{{request, answer[:2] + "41"}}})
	if command.ClassOf(err) != command.MemberFault || errors.Is(err, driver.ErrMalformed) {
		t.Errorf("code 41: %v", err)
	}
}

func TestClassOf(t *testing.T) {
	t.Parallel()
	for class, codes := range map[command.Class][]string{
		command.MemberFault: {"13", "33", "40", "41", "42"},
		command.NoLicence:   {"17", "32", "47", "67", "68"},
		command.CallerFault: {"01", "05", "10", "11", "15", "20", "24", "27", "29", "80", "83", "84", "A1", "A3", "A4", "A5", "A6", "A7", "A8", "A9", "AA", "AB", "BB"},
	} {
		for _, code := range codes {
			_, err := open("CA", []byte("CB"+code))
			var e *command.Error
			if !errors.As(err, &e) || e.Class != class || e.Code != code || e.Command != "CA" {
				t.Errorf("code %s: %v", code, err)
			}
		}
	}
}

// What a caller can get wrong is refused before anything is sent, with a sentence and no key material.
func TestRefusals(t *testing.T) {
	t.Parallel()
	d := with(t)
	pan, err := secret.ParsePAN("4555000002532148")
	if err != nil {
		t.Fatal(err)
	}
	good := command.PINTranslation{From: tdes(keys.PINKey), To: tdes(keys.ZonePIN), FromFormat: command.PINISO0, ToFormat: command.PINISO0, Block: secret.New(make([]byte, 8)), PAN: pan}
	with := func(change func(*command.PINTranslation)) command.PINTranslation { r := good; change(&r); return r }
	broken := tdes(keys.MACKey)
	broken.Cryptogram = broken.Cryptogram[:32]
	aes := tdes(keys.MACKey)
	aes.Algorithm = keys.AES
	silent := &script{t: t}
	mac := func(in command.MACInput) error { _, err := d.MAC(t.Context(), silent, in); return err }
	pin := func(r command.PINTranslation) error { _, err := d.TranslatePIN(t.Context(), silent, r); return err }
	work := func(r command.WorkKey) error { _, err := d.MakeWorkKey(t.Context(), silent, r); return err }
	verify := func(key keys.Wrapped, alg command.MACAlgorithm, n int) error {
		_, err := d.VerifyMAC(t.Context(), silent, command.MACInput{Key: key, Algorithm: alg, Data: []byte("x")}, make([]byte, n))
		return err
	}
	export := func(change func(*command.CardExport)) error {
		r := command.CardExport{Control: tdes(keys.CardControl), Key: tdes(keys.TerminalMaster), Header: make([]byte, 4), IV: make([]byte, 8)}
		change(&r)
		_, err := d.ExportForCard(t.Context(), silent, r)
		return err
	}
	divide := func(r command.Diversification) error { _, err := d.Diversify(t.Context(), silent, r); return err }
	track := func(key keys.Wrapped, n int) error {
		_, err := d.DecryptTrack(t.Context(), silent, key, make([]byte, n))
		return err
	}
	random := func(n int) error { _, err := d.Random(t.Context(), silent, n); return err }
	for name, err := range map[string]error{
		"PIN from a MAC key":        pin(with(func(r *command.PINTranslation) { r.From = tdes(keys.MACKey) })),
		"PIN to a terminal":         pin(with(func(r *command.PINTranslation) { r.To = tdes(keys.PINKey) })),
		"PIN format of SM4":         pin(with(func(r *command.PINTranslation) { r.ToFormat = command.PINSM4Wide })),
		"PIN format unknown":        pin(with(func(r *command.PINTranslation) { r.FromFormat = "77" })),
		"PIN block short":           pin(with(func(r *command.PINTranslation) { r.Block = secret.New(make([]byte, 7)) })),
		"PIN without PAN":           pin(with(func(r *command.PINTranslation) { r.PAN = secret.PAN{} })),
		"MAC with a PIN key":        mac(command.MACInput{Key: tdes(keys.PINKey), Algorithm: command.MACAlg1, Data: []byte("x")}),
		"MAC of nothing":            mac(command.MACInput{Key: tdes(keys.MACKey), Algorithm: command.MACAlg1}),
		"MAC of too much":           mac(command.MACInput{Key: tdes(keys.MACKey), Algorithm: command.MACAlg1, Data: make([]byte, d.set.data+1)}),
		"MAC algorithm 3, single":   mac(command.MACInput{Key: des(keys.MACKey), Algorithm: command.MACAlg3, Data: []byte("x")}),
		"MAC algorithm 1, SM4":      mac(command.MACInput{Key: sm4(keys.MACKey), Algorithm: command.MACAlg1, Data: []byte("x")}),
		"MAC algorithm 41, TDES":    mac(command.MACInput{Key: tdes(keys.MACKey), Algorithm: command.MACSM4CBC, Data: []byte("x")}),
		"MAC with a cut cryptogram": mac(command.MACInput{Key: broken, Algorithm: command.MACAlg1, Data: []byte("x")}),
		"MAC with AES":              mac(command.MACInput{Key: aes, Algorithm: command.MACCMAC, Data: []byte("x")}),
		"verify 5 bytes":            verify(tdes(keys.MACKey), command.MACAlg1, 5),
		"verify 0 bytes":            verify(tdes(keys.MACKey), command.MACAlg1, 0),
		"verify 3 bytes, SM4":       verify(sm4(keys.MACKey), command.MACSM4CBC, 3),
		"verify 17 bytes, SM4":      verify(sm4(keys.MACKey), command.MACSM4CBC, 17),
		"work key for a zone":       work(command.WorkKey{Master: tdes(keys.TerminalMaster), Usage: keys.ZonePIN, Algorithm: keys.TDES}),
		"work key under a ZMK":      work(command.WorkKey{Master: tdes(keys.ZoneMaster), Usage: keys.PINKey, Algorithm: keys.TDES}),
		"SM4 under TDES":            work(command.WorkKey{Master: tdes(keys.TerminalMaster), Usage: keys.PINKey, Algorithm: keys.SM4}),
		"TDES under SM4":            work(command.WorkKey{Master: sm4(keys.TerminalMaster), Usage: keys.MACKey, Algorithm: keys.TDES}),
		"track key of another kind": track(tdes(keys.PINKey), 8),
		"track of 7 bytes":          track(tdes(keys.TrackKey), 7),
		"track of 8 bytes, SM4":     track(sm4(keys.TrackKey), 8),
		"no track":                  track(tdes(keys.TrackKey), 0),
		"diversify a TMK":           divide(command.Diversification{Root: tdes(keys.TerminalMaster), Usage: keys.TerminalMaster, Factors: make([][8]byte, 1)}),
		"diversify to a PIN key":    divide(command.Diversification{Root: tdes(keys.Root), Usage: keys.PINKey, Factors: make([][8]byte, 1)}),
		"diversify by nothing":      divide(command.Diversification{Root: tdes(keys.Root), Usage: keys.TerminalMaster}),
		"diversify by 9":            divide(command.Diversification{Root: tdes(keys.Root), Usage: keys.TerminalMaster, Factors: make([][8]byte, 9)}),
		"diversify a single key":    divide(command.Diversification{Root: des(keys.Root), Usage: keys.TerminalMaster, Factors: make([][8]byte, 1)}),
		"export a PIN key":          export(func(r *command.CardExport) { r.Key = tdes(keys.PINKey) }),
		"export under a TMK":        export(func(r *command.CardExport) { r.Control = tdes(keys.TerminalMaster) }),
		"export with 5 of header":   export(func(r *command.CardExport) { r.Header = make([]byte, 5) }),
		"export with a short IV":    export(func(r *command.CardExport) { r.IV = make([]byte, 4) }),
		"export with much header":   export(func(r *command.CardExport) { r.MACHeader = make([]byte, 17) }),
		"export SM4 under TDES":     export(func(r *command.CardExport) { r.Key = sm4(keys.TerminalMaster) }),
		"no random":                 random(0),
		"too much random":           random(257),
	} {
		var e *command.Error
		if !errors.As(err, &e) || e.Class != command.CallerFault || e.Code != "" || e.Err == nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if strings.Contains(err.Error(), hex32[:8]) {
			t.Errorf("%s: the error shows a cryptogram", name)
		}
	}
}
