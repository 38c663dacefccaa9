package pkcs11

import (
	"slices"
	"strings"
	"testing"

	"github.com/keyward/keyward/hsmclient/command"
)

func TestSettings(t *testing.T) {
	t.Parallel()
	good := func(pairs ...string) map[string]string {
		m := map[string]string{"token": "keyward 1", "lmk_label": "LMK", "pin_file": "/run/pin"}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		return m
	}
	got, err := parseSettings(good("sessions", "ro"))
	if want := (settings{token: "keyward 1", pinFile: "/run/pin", lmkLabel: "LMK", readOnly: true}); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := parseSettings(map[string]string{"slot": "7", "lmk_label": "LMK"}); err != nil || got != (settings{slot: 7, lmkLabel: "LMK"}) {
		t.Errorf("got %+v, %v", got, err)
	}
	for want, bad := range map[string]map[string]string{
		`"header_length" is not known: there are lmk_label, pin_file, sessions, slot, token`: good("header_length", "4"),
		"name the token by its label": {"lmk_label": "LMK"},
		"both token and slot":         good("slot", "1"),
		"at most 32":                  good("token", strings.Repeat("x", 33)),
		"lmk_label is missing":        good("lmk_label", ""),
		`slot is "one"`:               {"slot": "one", "lmk_label": "LMK"},
		`slot is "-1"`:                {"slot": "-1", "lmk_label": "LMK"},
		`sessions is "6"`:             good("sessions", "6"),
	} {
		if _, err := parseSettings(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want an error with %q", bad, err, want)
		}
	}
}

func TestCryptograms(t *testing.T) {
	t.Parallel()
	id := []byte{0, 1, 0xAB}
	for text, want := range map[string]place{
		stored("audit-1", id):                          {label: "audit-1", id: id},
		"pkcs11:object=a.b_C;id=ff":                    {label: "a.b_C", id: []byte{255}},
		"pkcs11:object=a":                              {label: "a"},
		"pkcs11:wrapped=" + strings.Repeat("0a", 24):   {wrapped: []byte(strings.Repeat("\x0a", 24))},
		"pkcs11:wrapped=" + strings.Repeat("FF", 8+32): {wrapped: []byte(strings.Repeat("\xff", 40))},
	} {
		got, err := parseCryptogram(text)
		if err != nil || got.label != want.label || !slices.Equal(got.id, want.id) || !slices.Equal(got.wrapped, want.wrapped) {
			t.Errorf("%s: got %+v, %v", text, got, err)
		}
	}
	for _, bad := range []string{
		"", "U0123456789ABCDEF", "pkcs11:", "pkcs11:wrapped=", "pkcs11:wrapped=zz", "pkcs11:wrapped=" + strings.Repeat("0A", 25), "pkcs11:object=",
		"pkcs11:object=a b", "pkcs11:object=a;id=", "pkcs11:object=a;id=1", "pkcs11:object=a;id=" + strings.Repeat("00", 33), "pkcs11:object=;id=00",
		"pkcs11:object=" + strings.Repeat("x", 33), "PKCS11:object=a", "pkcs11:object=a%20b", "pkcs11:object=ä",
	} {
		if got, err := parseCryptogram(bad); err == nil {
			t.Errorf("%q was read as %+v", bad, got)
		} else if len(bad) > 20 && strings.Contains(err.Error(), bad) {
			t.Errorf("the error %q shows the cryptogram", err)
		}
	}
}

// FuzzCryptogram: whatever is read is a key of a size that exists or a label that is allowed, and a stored key's name is read back.
func FuzzCryptogram(f *testing.F) {
	f.Add("pkcs11:object=audit-1;id=00FF")
	f.Add("pkcs11:object=audit-1")
	f.Add("pkcs11:wrapped=" + strings.Repeat("0A", 40))
	f.Add("U0123456789ABCDEF0123456789ABCDEF")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseCryptogram(text)
		if err != nil {
			return
		}
		if got.wrapped != nil {
			if n := len(got.wrapped); got.label != "" || n != 24 && n != 32 && n != 40 {
				t.Fatalf("%q was read as a wrapped key of %d bytes", text, n)
			}
			return
		}
		if checkLabel(got.label) != nil {
			t.Fatalf("%q was read as the label %q", text, got.label)
		}
		if got.id == nil {
			return
		}
		if again, err := parseCryptogram(stored(got.label, got.id)); err != nil || again.label != got.label || !slices.Equal(again.id, got.id) {
			t.Fatalf("%q does not come back: %+v, %v", text, again, err)
		}
	})
}

// TestMeanings: names are those of the specification, each once, and every class has its results.
func TestMeanings(t *testing.T) {
	t.Parallel()
	names, classes := map[string]bool{}, map[command.Class]int{}
	for r, m := range meanings {
		if !strings.HasPrefix(m.name, "CKR_") || names[m.name] {
			t.Errorf("result 0x%X has the name %q", uint(r), m.name)
		}
		names[m.name] = true
		classes[m.class]++
	}
	for _, class := range []command.Class{command.MemberFault, command.NoLicence, command.CallerFault} {
		if classes[class] < 5 {
			t.Errorf("only %d results are of class %s", classes[class], class)
		}
	}
	for r, want := range map[result]string{0x80000042: "CKR_VENDOR_DEFINED (member fault): the result is 0x80000042", 0xFFFF: "CKR_UNKNOWN (member fault): the result is 0xFFFF"} {
		if got := r.refused("C_Sign").Error(); !strings.Contains(got, want) {
			t.Errorf("got %q, want %q in it", got, want)
		}
	}
}
