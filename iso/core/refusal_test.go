package core

import (
	"errors"
	"strings"
	"testing"

	"github.com/keyward/keyward/internal/vectors"
	"github.com/keyward/keyward/iso"
)

func TestRefusals(t *testing.T) {
	t.Parallel()
	good := string(encoded(t, purchase()))
	start := 4 + 32 // Field 2.
	for name, c := range map[string]struct {
		message string
		field   int
		reason  iso.Reason
	}{
		"empty":               {"", 0, iso.Short},
		"MTI cut":             {"020", 0, iso.Short},
		"MTI letter":          {"02x0" + good[4:], 0, iso.BadMTI},
		"bitmap cut":          {good[:19], 1, iso.Short},
		"second bitmap cut":   {good[:35], 1, iso.Short},
		"bitmap lower case":   {good[:4] + strings.ToLower(good[4:20]) + good[20:], 1, iso.BadBitmap},
		"length cut":          {good[:start+1], 2, iso.ShortLength},
		"length letter":       {good[:start] + "1x" + good[start+2:], 2, iso.BadLength},
		"length sign":         {good[:start] + "-1" + good[start+2:], 2, iso.BadLength},
		"length zero":         {good[:start] + "00" + good[start+2:], 2, iso.BadLength},
		"length over maximum": {good[:start] + "20" + good[start+2:], 2, iso.LengthOverMax},
		"value cut":           {good[:start+5], 2, iso.Short},
		"digit":               {good[:start+2] + "A" + good[start+3:], 2, iso.BadDigit},
		"MAC hex":             {good[:len(good)-1] + "g", 128, iso.BadHex},
		"MAC lower hex":       {good[:len(good)-1] + "a", 128, iso.BadHex},
		"last byte missing":   {good[:len(good)-1], 128, iso.Short},
		"trailing":            {good + " ", 0, iso.Trailing},
		"twice":               {good + good, 0, iso.Trailing},
		"field 5":             {"02000800000000000000", 5, iso.UndefinedField},
		"field 65":            {"0200800000000000000" + "08000000000000000", 65, iso.UndefinedField},
		"chip data odd":       {"02000000000000000200" + "0031234", 55, iso.BadLength},
		"chip data over":      {"02000000000000000200" + "512" + strings.Repeat("0", 512), 55, iso.LengthOverMax},
		"terminal control":    {"02000000000000800000" + "1000000\n", 41, iso.BadChar},
		"code not an":         {"02000000000002000000" + "0-", 39, iso.BadChar},
		"track with D":        {"02000000000020000000" + "05123D4", 35, iso.BadDigit},
	} {
		_, err := Codec().Decode([]byte(c.message))
		var d *iso.DecodeError
		if !errors.As(err, &d) || d.Field != c.field || d.Reason != c.reason || d.Partial == nil {
			t.Errorf("%s: %v, want field %d %s", name, err, c.field, c.reason)
		}
	}
}

// TestVectorsBad takes those refusals of the plain ASCII dialect of 1987 that our profile shares.
func TestVectorsBad(t *testing.T) {
	t.Parallel()
	used := 0
	for _, v := range vectors.Load(t, "iso8583.json").Group(t, "messages_bad") {
		if vectors.Str(v.In, "dialect") != "ascii87" || vectors.Str(v.Out, "field") == "" {
			continue
		}
		// Our variable fields are never empty: a row with an empty field 2 stops there.
		_, err := Codec().Decode(vectors.Hex(t, v.In, "message"))
		var d *iso.DecodeError
		if !errors.As(err, &d) {
			t.Errorf("%s: %v", v.ID, err)
			continue
		}
		used++
		if want := vectors.Str(v.Out, "reject"); string(d.Reason) != want && !(d.Field == iso.PAN && d.Reason == iso.BadLength) {
			t.Errorf("%s: %v, want %s", v.ID, err, want)
		}
	}
	if used == 0 {
		t.Fatal("no row was used")
	}
}
