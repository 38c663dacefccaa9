package racal

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/hsmclient/wire"
	"github.com/keyward/keyward/keys"
)

func TestSettings(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		settings []string
		want     wire.Config
	}{
		"none":         {nil, wire.Config{HeaderLength: 4, Echo: true, Trailer: true, Probe: "NC"}},
		"no echo":      {[]string{"echo=false"}, wire.Config{HeaderLength: 4, Probe: "NC"}},
		"no trailer":   {[]string{"trailer=false", "header_length=12"}, wire.Config{HeaderLength: 12, Echo: true, Probe: "NC"}},
		"no header":    {[]string{"header_length=0"}, wire.Config{Probe: "NC"}},
		"payload rule": {[]string{"length_rule=payload", "lmk_id=01"}, wire.Config{HeaderLength: 4, BareLength: true, Echo: true, Trailer: true, Suffix: "%01", Probe: "NC"}},
	} {
		if got := with(t, c.settings...).frame; got != c.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for text, want := range map[string]string{
		"header=4":                         "header_length, length_rule", // names those that there are
		"header_length=256":                "0 to 255",
		"header_length=four":               "0 to 255",
		"length_rule=some":                 "all or payload",
		"echo=yes":                         "true or false",
		"lmk_id=1":                         "two digits",
		"lmk_id=ab":                        "two digits",
		"lmk=blocks":                       "variant or keyblock",
		"variant_set=other":                "payshield or sjj1310",
		"legacy_types=1":                   "true or false",
		"zone_form=S":                      "variant or plain or tr31",
		"zone_form=tr31":                   "key-block LMK",
		"echo=true header_length=0":        "length 0",
		"trailer=true echo=false":          "only with echo",
		"lmk=keyblock variant_set=sjj1310": "no key blocks",
	} {
		settings := map[string]string{}
		for _, s := range strings.Fields(text) {
			name, value, _ := strings.Cut(s, "=")
			settings[name] = value
		}
		if d, err := Make(settings); d != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestCapabilities(t *testing.T) {
	t.Parallel()
	for want, d := range map[command.Capability]*Driver{
		command.CanExchangeZone | command.CanDiversify:    with(t),
		command.CanTranslateLMK | command.CanTranslatePIN: with(t, "old_domain=a"),
		command.CanStoreKey | command.CanMAC:              with(t, "variant_set=sjj1310"),
	} {
		if !d.Capabilities().Has(want) {
			t.Errorf("lacks %s", d.Capabilities().Missing(want))
		}
	}
	if can := with(t).Capabilities(); can&(command.CanStoreKey|command.CanTranslateLMK|command.CanDataKey) != 0 {
		t.Errorf("claims %s", can)
	}
	if _, err := with(t).StoreKey(t.Context(), &script{t: t}, command.NewKey{Label: "a", Usage: keys.Seal, Algorithm: keys.TDES}); command.ClassOf(err) != command.NoLicence {
		t.Errorf("store: %v", err)
	}
}

// The probe commands, with what is taken for an answer and what not; and what is no probe.
func TestProbe(t *testing.T) {
	t.Parallel()
	d := with(t)
	probe := func(name string) call {
		return func(ctx context.Context, on driver.Conversation) error { return d.Probe(ctx, on, name) }
	}
	for _, c := range []exchange{
		{"N0", "N0008", "N10012345678", probe("N0")},
		{"B2", "B20008KEYWARD!", "B300KEYWARD!", probe("B2")},
	} {
		if c.name == "N0" { // B2 may be empty, so that one cut of its answer is another device's answer
			c.run(t)
		}
		if err := c.call(t.Context(), &script{t: t, steps: [][2]string{{c.request, c.answer}}}); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	for answer, ok := range map[string]bool{
		"B300KEYWARD!": true, "B300": true, "B300KEYWARD?": false, "B300KEYWARD!!": false, "B300KEY": false, "B315": false, "NP00": false,
	} {
		if err := d.Probe(t.Context(), always(answer), "B2"); (err == nil) != ok {
			t.Errorf("B2 answered %s: %v", answer, err)
		}
	}
	for answer, ok := range map[string]bool{
		"NP003164000010900000000": true, "NP0031640001-090000000": true, "NP00": false, "NP00x": false, "NP68": false,
	} {
		if err := d.Probe(t.Context(), always(answer), "NO"); (err == nil) != ok {
			t.Errorf("NO answered %s: %v", answer, err)
		}
	}
	for answer, ok := range map[string]bool{
		"JL00S0000012345A261121235959221300102010001": true, "JL00S00000": false, "JL68": false,
		"JL00\x00000000000000000000000000": false,
	} {
		if err := d.Probe(t.Context(), always(answer), "JK"); (err == nil) != ok {
			t.Errorf("JK answered %q: %v", answer, err)
		}
	}
	for _, name := range []string{"RA", "A0", "KR", "nc", "CS"} {
		err := d.CheckProbe(name)
		if command.ClassOf(err) != command.CallerFault || !strings.Contains(err.Error(), "B2, JK, N0, NC, NO") {
			t.Errorf("%s: %v", name, err)
		}
		if err := d.Probe(t.Context(), &script{t: t}, name); err == nil {
			t.Errorf("%s was sent as a probe", name)
		}
	}
	for _, name := range []string{"", "NC", "B2", "NO", "N0", "JK"} {
		if err := d.CheckProbe(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestResultOf(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]string{"ND00abc": "00", "CB20": "20", "A7A4": "A4", "": "", "ND0": "", "ND\x00\x01": ""} {
		if got := with(t).ResultOf([]byte(answer)); got != want {
			t.Errorf("%q: got %q", answer, got)
		}
	}
}

// The diagnosis: the serial number from JK where the device has it, from NC on Chinese boxes.
func TestDiagnose(t *testing.T) {
	t.Parallel()
	const nc = "ND0026860474449124220001-0900"
	for name, c := range map[string]struct {
		d     *Driver
		steps [][2]string
		want  command.Diagnosis
		fails error
	}{
		"with JK": {with(t), [][2]string{{"NC", nc}, {"JK", "JL00S000000123450261121235959"}}, command.Diagnosis{LMKCheck: "2686047444912422", Firmware: "0001-0900", Serial: "S00000012345"}, nil},
		"without": {with(t), [][2]string{{"NC", nc}, {"JK", "JL68"}}, command.Diagnosis{LMKCheck: "2686047444912422", Firmware: "0001-0900"}, nil},
		"bad JK":  {with(t), [][2]string{{"NC", nc}, {"JK", "JL00"}}, command.Diagnosis{}, driver.ErrMalformed},
		"Chinese NC": {with(t, "variant_set=sjj1310"), [][2]string{{"NC", "ND002686047444912422" + "SJJ1310 SIM V1.48 000001" + "SIM000000001"}},
			command.Diagnosis{LMKCheck: "2686047444912422", Firmware: "SJJ1310 SIM V1.48 000001", Serial: "SIM000000001"}, nil},
		"the other layout": {with(t, "variant_set=sjj1310"), [][2]string{{"NC", nc}}, command.Diagnosis{}, driver.ErrMalformed},
	} {
		s := &script{t: t, steps: c.steps}
		got, err := c.d.Diagnose(t.Context(), s)
		s.done()
		if !errors.Is(err, c.fails) || c.fails == nil && got != c.want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}
