package iso_test

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/moov-io/iso8583"
	"github.com/moov-io/iso8583/encoding"
	"github.com/moov-io/iso8583/field"
	"github.com/moov-io/iso8583/padding"
	"github.com/moov-io/iso8583/prefix"

	"github.com/keyward/keyward/internal/vectors"
	"github.com/keyward/keyward/iso"
)

func fieldOf(length int, enc encoding.Encoder, pre prefix.Prefixer) field.Field {
	return field.NewString(&field.Spec{Length: length, Enc: enc, Pref: pre})
}

// spec is an ASCII dialect with the given fields on top of MTI and bitmap.
func spec(fields map[int]field.Field) *iso8583.MessageSpec {
	all := map[int]field.Field{
		0: fieldOf(4, iso.Digits, iso.Fixed),
		1: field.NewBitmap(&field.Spec{Length: 8, Enc: iso.Hex, Pref: iso.Fixed}),
	}
	for n, f := range fields {
		all[n] = f
	}
	return &iso8583.MessageSpec{Name: "test", Fields: all}
}

// TestVectorsMTIBitmap takes the rows of the group whose inline spec is ASCII with a hex bitmap and fixed fields.
func TestVectorsMTIBitmap(t *testing.T) {
	t.Parallel()
	used := 0
	for _, v := range vectors.Load(t, "iso8583.json").Group(t, "mti_bitmap") {
		in, _ := v.In["spec"].(map[string]any)
		if vectors.Str(in, "mti") != "asc" || vectors.Str(in, "bitmap") != "hex" || in["frame"] != nil || len(in) != 3 {
			continue
		}
		fields := map[int]field.Field{}
		forms, _ := in["fields"].(map[string]any)
		for key := range forms {
			form := strings.Fields(vectors.Str(forms, key))
			n, err1 := strconv.Atoi(key)
			length, err2 := strconv.Atoi(form[1])
			enc := map[string]iso.Encoding{"a": iso.Printable, "n": iso.Digits}[form[2]]
			if err1 != nil || err2 != nil || form[0] != "F" || enc == nil {
				t.Fatalf("%s: field form %v", v.ID, form)
			}
			fields[n] = fieldOf(length, enc, iso.Fixed)
		}
		table, err := iso.NewTable(spec(fields))
		if err != nil {
			t.Fatal(err)
		}
		used++
		message := vectors.Hex(t, v.In, "message")
		m, err := table.Decode(message)
		if len(message) >= 20 && bytes.ContainsAny(message[4:20], "abcdef") {
			// A tolerant decoder takes a bitmap in lower case; ours has one spelling for each message (docs/dialect-core.md §2).
			if !errors.Is(err, iso.BadBitmap) {
				t.Errorf("%s: %v, want %s", v.ID, err, iso.BadBitmap)
			}
			message = append(append(message[:4:4], bytes.ToUpper(message[4:20])...), message[20:]...)
			m, err = table.Decode(message)
		}
		if reject := vectors.Str(v.Out, "reject"); reject != "" {
			var d *iso.DecodeError
			if !errors.As(err, &d) || string(d.Reason) != reject {
				t.Errorf("%s: %v, want %s", v.ID, err, reject)
			} else if want := vectors.Str(v.Out, "field"); strings.HasPrefix(want, "bitmap") && d.Field != 1 {
				t.Errorf("%s: stopped at %d, want %s", v.ID, d.Field, want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", v.ID, err)
			continue
		}
		for key := range v.Out {
			n, err := strconv.Atoi(key)
			switch {
			case key == "mti" && m.MTI() != vectors.Str(v.Out, key):
				t.Errorf("%s: MTI %s", v.ID, m.MTI())
			case err == nil && m.Text(n) != vectors.Str(v.Out, key):
				t.Errorf("%s: field %d differs", v.ID, n)
			}
		}
	}
	if used < 5 {
		t.Fatalf("only %d rows were used", used)
	}
}

// TestNewTableRefuses names what the table would not run.
func TestNewTableRefuses(t *testing.T) {
	t.Parallel()
	good := fieldOf(6, iso.Digits, iso.Fixed)
	if _, err := iso.NewTable(spec(map[int]field.Field{3: good})); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]*iso8583.MessageSpec{
		"empty":         {Name: "x", Fields: map[int]field.Field{}},
		"foreign codec": spec(map[int]field.Field{3: fieldOf(6, encoding.ASCII, iso.Fixed)}),
		"foreign pref":  spec(map[int]field.Field{3: fieldOf(6, iso.Digits, prefix.ASCII.Fixed)}),
		"padder":        spec(map[int]field.Field{3: field.NewString(&field.Spec{Length: 6, Enc: iso.Digits, Pref: iso.Fixed, Pad: padding.Left('0')})}),
		"no length":     spec(map[int]field.Field{3: fieldOf(0, iso.Digits, iso.Fixed)}),
		"field 129":     spec(map[int]field.Field{129: good}),
		"MTI of 3":      spec(map[int]field.Field{0: fieldOf(3, iso.Digits, iso.Fixed)}),
		"long bitmap":   spec(map[int]field.Field{1: field.NewBitmap(&field.Spec{Length: 16, Enc: iso.Hex, Pref: iso.Fixed})}),
		"no spec":       spec(map[int]field.Field{3: field.NewString(nil)}),
	} {
		if _, err := iso.NewTable(s); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("MustTable let a wrong spec pass")
		}
	}()
	iso.MustTable(spec(map[int]field.Field{129: good}))
}

// TestEncodings checks the refusals of the shared encodings one by one.
func TestEncodings(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		enc    iso.Encoding
		data   string
		length int
		want   iso.Reason
	}{
		"digit":        {iso.Digits, "12A4", 4, iso.BadDigit},
		"digit, GBK":   {iso.Digits, "12\xB24", 4, iso.BadDigit},
		"track":        {iso.Track, "12D4", 4, iso.BadDigit},
		"alphanumeric": {iso.Alphanumeric, "12-4", 4, iso.BadChar},
		"printable":    {iso.Printable, "12\x7F4", 4, iso.BadChar},
		"hex":          {iso.Hex, "12G4", 2, iso.BadHex},
		"lower hex":    {iso.Hex, "12a4", 2, iso.BadHex},
		"short":        {iso.Digits, "123", 4, iso.Short},
		"short hex":    {iso.Hex, "123", 2, iso.Short},
		"hostile":      {iso.Hex, "12", 1<<62 + 1, iso.Short},
		"negative":     {iso.Raw, "12", -1, iso.Short},
	} {
		if _, _, err := c.enc.Value(c.data, c.length); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
		if _, _, err := c.enc.Decode([]byte(c.data), c.length); !errors.Is(err, c.want) {
			t.Errorf("%s by moov's method: %v, want %s", name, err, c.want)
		}
	}
	for name, c := range map[string]struct {
		enc         iso.Encoding
		value, line string
	}{
		"digits": {iso.Digits, "0012", "0012"}, "track": {iso.Track, "12=34", "12=34"}, "raw": {iso.Raw, "\x00\xFF", "\x00\xFF"},
		"hex": {iso.Hex, "\x0A\xFF", "0AFF"}, "printable": {iso.Printable, "a~ ", "a~ "}, "alphanumeric": {iso.Alphanumeric, "Xz 9", "Xz 9"},
	} {
		got, err := c.enc.Encode([]byte(c.value))
		if err != nil || string(got) != c.line {
			t.Errorf("%s: wrote %q, %v", name, got, err)
		}
		back, read, err := c.enc.Value(c.line+"...", len(c.value))
		if err != nil || back != c.value || read != len(c.line) {
			t.Errorf("%s: read %q (%d bytes), %v", name, back, read, err)
		}
	}
	if _, err := iso.Digits.Encode([]byte("1x")); !errors.Is(err, iso.BadDigit) {
		t.Error(err)
	}
}
