package profile

import (
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"github.com/keyward/keyward/iso"
	"github.com/keyward/keyward/iso/unionpay"
	"github.com/keyward/keyward/keys"
)

func list(t *testing.T, configured ...Profile) *List {
	t.Helper()
	l, err := NewList(configured)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func find(t *testing.T, l *List, name string) *Profile {
	t.Helper()
	p, ok := l.Find(name)
	if !ok {
		t.Fatalf("no profile %s", name)
	}
	return p
}

// TestDefaults pins the default of every setting: they are what terminals outside this project are told (design.md §6).
func TestDefaults(t *testing.T) {
	t.Parallel()
	p := find(t, list(t), Default)
	for name, got := range map[string][2]string{
		"mac": {string(p.MAC), "ecb"}, "sm4_mac": {string(p.SM4MAC), "ecb"}, "mac_form": {string(p.MACForm), "hex"},
		"mac_on": {strings.Join(p.MACOn, " "), ""}, "sm4_sign_on": {p.SM4SignOn, "006"}, "sm4_answer": {p.SM4Answer, "same"},
		"sm4_digit": {p.SM4Digit, "4"}, "sm4_pin": {string(p.SM4PIN), "62-tag-00"}, "sm4_pin_block": {string(p.SM4PINBlock), "wide"},
		"answer_tpdu": {string(p.AnswerTPDU), "swap"}, "caller_id_block": {string(p.CallerIDRule), "optional"},
	} {
		if got[0] != got[1] {
			t.Errorf("%s is %q, want %q", name, got[0], got[1])
		}
	}
	if p.SM4KCVBytes != 4 {
		t.Errorf("sm4_kcv_bytes is %d", p.SM4KCVBytes)
	}
	for algorithm, digit := range map[keys.Algorithm]byte{keys.DES: '0', keys.TDES: '6', keys.SM4: '4'} {
		if got := p.Digit(algorithm); got != digit {
			t.Errorf("%s: digit %c, want %c", algorithm, got, digit)
		}
	}
}

func TestSignOnCodes(t *testing.T) {
	t.Parallel()
	l := list(t)
	for _, c := range []struct {
		profile, code string
		want          SignOn
		served        bool
	}{
		{Default, "001", SignOn{keys.DES, false, "001", 4}, true},
		{Default, "003", SignOn{keys.TDES, false, "003", 4}, true},
		{Default, "004", SignOn{keys.TDES, true, "004", 4}, true},
		{Default, "006", SignOn{keys.SM4, true, "006", 4}, true},
		{Default, "005", SignOn{}, false},
		{"unionpay-sm4-005", "005", SignOn{keys.SM4, true, "011", 3}, true},
		{"unionpay-sm4-005", "006", SignOn{}, false},
		{Default, "002", SignOn{}, false},
	} {
		got, ok := find(t, l, c.profile).SignOn(c.code)
		if got != c.want || ok != c.served {
			t.Errorf("%s %s: %+v %t", c.profile, c.code, got, ok)
		}
	}
}

// TestListFaults: every fault is a sentence with the profile, the setting and the way out; the names in it are asserted.
func TestListFaults(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		p    Profile
		want []string
	}{
		"no name":      {Profile{}, []string{"name", "beginning with a letter"}},
		"upper case":   {Profile{Name: "Acquirer"}, []string{`"Acquirer"`}},
		"built in":     {Profile{Name: Default}, []string{"unionpay is there already", "another name"}},
		"unknown base": {Profile{Name: "a", Base: "b"}, []string{`a has the base "b"`, "unionpay-cmac"}},
		"mac":          {Profile{Name: "a", MAC: "x9.99"}, []string{"a: mac", `"x9.99"`, "x9.19"}},
		"sm4 mac":      {Profile{Name: "a", SM4MAC: MACRetail}, []string{"a: sm4_mac", "cmac"}},
		"form":         {Profile{Name: "a", MACForm: "raw"}, []string{"a: mac_form", "binary"}},
		"contradiction": {
			Profile{Name: "a", MACForm: FormBinary}, []string{"a: mac_form is binary", "choose mac_form hex"},
		},
		"half of it":     {Profile{Name: "a", Base: "unionpay-x919", SM4MAC: MACECB}, []string{"a: mac_form is binary"}},
		"digit":          {Profile{Name: "a", SM4Digit: "6"}, []string{"a: sm4_digit", "4, 3"}},
		"code of others": {Profile{Name: "a", SM4SignOn: "004"}, []string{"a: sm4_sign_on", "005, 006"}},
		"answer":         {Profile{Name: "a", SM4Answer: "x"}, []string{"a: sm4_answer", "three digits"}},
		"kcv":            {Profile{Name: "a", SM4KCVBytes: 5}, []string{"a: sm4_kcv_bytes", "57 bytes"}},
		"pin":            {Profile{Name: "a", SM4PIN: "52"}, []string{"a: sm4_pin", "63-sm016"}},
		"block":          {Profile{Name: "a", SM4PINBlock: "8"}, []string{"a: sm4_pin_block", "8+8"}},
		"types":          {Profile{Name: "a", MACOn: []string{"0800"}}, []string{"a: mac_on", "0820"}},
		"tpdu":           {Profile{Name: "a", AnswerTPDU: "none"}, []string{"a: answer_tpdu", "keep"}},
		"caller":         {Profile{Name: "a", CallerIDRule: "no"}, []string{"a: caller_id_block", "refused"}},
	} {
		_, err := NewList([]Profile{c.p})
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not say %q", name, err, want)
			}
		}
	}
}

// TestBase: what a profile leaves out is its base's, through two levels, and an empty list of types is a setting.
func TestBase(t *testing.T) {
	t.Parallel()
	l := list(t, Profile{Name: "first", Base: "unionpay-sm4-005", SM4Digit: "3"}, Profile{Name: "second", Base: "first", MACOn: []string{}})
	p := find(t, l, "second")
	if p.SM4Digit != "3" || p.SM4SignOn != "005" || p.SM4PIN != PlaceSM016 || p.MAC != MACECB || len(p.MACOn) != 0 {
		t.Errorf("%+v", p)
	}
	if p := find(t, l, "first"); !slices.Equal(p.MACOn, []string{"0920"}) || !p.MustMAC(iso.New("0920")) || p.MustMAC(iso.New("0820")) {
		t.Errorf("%+v", p)
	}
}

// katMAB is the MAB of KAT-3 in facts/unionpay.md §4.
const katMAB = "02003020048000C0803100000000000000000100000103200032323030333630303130343531323534313131303030313135360024413330313936323131313131313131313131313131313131001322006603000600"

func TestMACData(t *testing.T) {
	t.Parallel()
	mab, err := hex.DecodeString(katMAB)
	if err != nil {
		t.Fatal(err)
	}
	l := list(t)
	for _, c := range []struct {
		profile   string
		algorithm keys.Algorithm
		data      string
		mac       MAC
		forgeable bool
	}{
		{Default, keys.TDES, "8669012722F217C6", MACCBC, true},
		{Default, keys.DES, "8669012722F217C6", MACCBC, true},
		{Default, keys.SM4, "3253052522C033D4B43A040200322412", MACCBC, true},
		{"unionpay-x919", keys.TDES, string(mab), MACRetail, false},
		{"unionpay-x99", keys.DES, string(mab), MACCBC, false},
		{"unionpay-sm4-cbc", keys.SM4, string(mab), MACCBC, false},
		{"unionpay-cmac", keys.SM4, string(mab), MACCMAC, false},
	} {
		p := find(t, l, c.profile)
		data, mac := p.MACData(c.algorithm, mab)
		if string(data) != c.data || mac != c.mac || p.Forgeable(c.algorithm) != c.forgeable {
			t.Errorf("%s %s: %d bytes, %s", c.profile, c.algorithm, len(data), mac)
		}
	}
}

func TestField64(t *testing.T) {
	t.Parallel()
	l := list(t)
	whole := []byte{0xAF, 0xC8, 0xFC, 0x87, 0x23, 0x70, 0x67, 0x9B}
	for name, want := range map[string]string{Default: "AFC8FC87", "unionpay-x99": string(whole), "unionpay-sm4-cbc": "AFC8FC87"} {
		p := find(t, l, name)
		field := p.Field64(whole)
		if string(field) != want {
			t.Errorf("%s: %q", name, field)
		}
		got, ok := p.Expected(field)
		if !ok || string(got) != string(whole[:len(got)]) {
			t.Errorf("%s: expected %X %t", name, got, ok)
		}
	}
	for _, bad := range []string{"", "AFC8FC8", "AFC8FC8G", "AFC8FC87A"} {
		if _, ok := find(t, l, Default).Expected([]byte(bad)); ok {
			t.Errorf("%q is taken for a MAC", bad)
		}
	}
}

func TestPIN(t *testing.T) {
	t.Parallel()
	const block, zero, tdes = "0123456789abcdef", "\x00\x00\x00\x00\x00\x00\x00\x00", "12345678"
	l := list(t)
	for name, c := range map[string]struct {
		profile   string
		algorithm keys.Algorithm
		f52       string
		field     int
		value     string
		want      string
		fault     error
	}{
		"tdes":            {Default, keys.TDES, tdes, 0, "", tdes, nil},
		"none":            {Default, keys.SM4, "", 0, "", "", nil},
		"tag":             {Default, keys.SM4, zero, 62, "\x00\x10" + block, block, nil},
		"tag with others": {Default, keys.SM4, zero, 62, "\x09\x02ab\x00\x10" + block + "\x12\x00", block, nil},
		"tag twice":       {Default, keys.SM4, zero, 62, "\x00\x10" + block + "\x00\x10" + block, "", errNoPIN},
		"tag missing":     {Default, keys.SM4, zero, 62, "\x09\x02ab", "", errNoPIN},
		"short tag":       {Default, keys.SM4, zero, 62, "\x00\x08" + block[:8], "", errNoPIN},
		"cut off":         {Default, keys.SM4, zero, 62, "\x00\x10" + block[:9], "", errTLV},
		"half a head":     {Default, keys.SM4, zero, 62, "\x00\x10" + block + "\x09", "", errTLV},
		"no field":        {Default, keys.SM4, zero, 0, "", "", errNoPIN},
		"field 52":        {Default, keys.SM4, tdes, 62, "\x00\x10" + block, "", errPINField},
		"sm016":           {"unionpay-sm4-005", keys.SM4, zero, 63, "SM016" + block, block, nil},
		"sm016 short":     {"unionpay-sm4-005", keys.SM4, zero, 63, "SM016" + block[1:], "", errNoPIN},
		"other letters":   {"unionpay-sm4-005", keys.SM4, zero, 63, "SM008" + block, "", errNoPIN},
		"prefix":          {"unionpay-sm4-prefix", keys.SM4, zero, 62, "\x01\x02\x03\x04\x05" + block, block, nil},
		"prefix missing":  {"unionpay-sm4-prefix", keys.SM4, zero, 62, block, "", errNoPIN},
	} {
		m := iso.New("0200")
		if c.f52 != "" {
			m.Set(iso.PINBlock, c.f52)
		}
		if c.field != 0 {
			m.Set(c.field, c.value)
		}
		p := find(t, l, c.profile)
		got, err := p.PIN(m, c.algorithm)
		if err != c.fault || string(got.Reveal()) != c.want { //nolint:errorlint // the very values
			t.Errorf("%s: %d bytes, %v", name, got.Len(), err)
		}
		if c.field != 0 && p.PINField(c.algorithm) != c.field {
			t.Errorf("%s: field %d", name, p.PINField(c.algorithm))
		}
	}
}

func TestFits(t *testing.T) {
	t.Parallel()
	l := list(t)
	for _, c := range []struct {
		profile   string
		algorithm keys.Algorithm
		mak       int
		fits      bool
	}{
		{Default, keys.TDES, 8, true}, {Default, keys.DES, 8, true}, {"unionpay-x919", keys.TDES, 16, true}, {"unionpay-x919", keys.SM4, 16, true},
		{"unionpay-x919", keys.TDES, 8, false}, {"unionpay-x919", keys.DES, 16, false}, {"unionpay-cmac", keys.TDES, 8, true},
	} {
		if err := find(t, l, c.profile).Fits(c.algorithm, c.mak); (err == nil) != c.fits {
			t.Errorf("%s %s %d: %v", c.profile, c.algorithm, c.mak, err)
		}
	}
}

func TestTransport(t *testing.T) {
	t.Parallel()
	l := list(t, Profile{Name: "kept", AnswerTPDU: TPDUKeep, CallerIDRule: CallerRequired}, Profile{Name: "strict", CallerIDRule: CallerRefused})
	request := &unionpay.Packet{TPDU: unionpay.TPDU{0x60, 0, 3, 0, 1}}
	answer := &unionpay.Packet{TPDU: request.TPDU.Swap()}
	find(t, l, Default).Answer(answer, request)
	if answer.TPDU != request.TPDU.Swap() {
		t.Error("the default does not swap")
	}
	find(t, l, "kept").Answer(answer, request)
	if answer.TPDU != request.TPDU {
		t.Error("keep does not keep")
	}
	with := &unionpay.Packet{CallerID: make([]byte, 33)}
	for _, c := range []struct {
		profile string
		packet  *unionpay.Packet
		ok      bool
	}{{Default, request, true}, {Default, with, true}, {"kept", request, false}, {"kept", with, true}, {"strict", request, true}, {"strict", with, false}} {
		if err := find(t, l, c.profile).CheckCaller(c.packet); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.profile, err)
		}
	}
}

// FuzzPIN: no field makes the search for the PIN block panic, and what is found has its length.
func FuzzPIN(f *testing.F) {
	f.Add("\x00\x100123456789abcdef", uint8(0))
	f.Add("SM0160123456789abcdef", uint8(1))
	l, err := NewList(nil)
	if err != nil {
		f.Fatal(err)
	}
	names := l.Names()
	f.Fuzz(func(t *testing.T, field string, which uint8) {
		p, _ := l.Find(names[int(which)%len(names)])
		m := iso.New("0200")
		m.Set(iso.PINBlock, strings.Repeat("\x00", 8))
		m.Set(iso.Private62, field)
		m.Set(iso.Private63, field)
		if block, err := p.PIN(m, keys.SM4); err == nil && block.Len() != sm4Block {
			t.Fatalf("%d bytes", block.Len())
		}
	})
}
