package unionpay

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/moov-io/iso8583"
	"github.com/moov-io/iso8583/field"

	"github.com/keyward/keyward/internal/vectors"
	"github.com/keyward/keyward/iso"
)

// isBinary says which fields the vector file writes as hex.
func isBinary(n int) bool {
	switch n {
	case iso.PINBlock, iso.ChipData, iso.Private62, iso.Private63, iso.MAC:
		return true
	}
	return false
}

func TestVectorsPOS(t *testing.T) {
	t.Parallel()
	for _, v := range vectors.Load(t, "iso8583.json").Group(t, "unionpay_pos") {
		t.Run(v.ID, func(t *testing.T) {
			t.Parallel()
			frame := vectors.Hex(t, v.In, "message")
			p, err := Parse(frame)
			if err != nil {
				t.Fatal(err)
			}
			checked := 0
			for key, value := range v.Out {
				want, _ := value.(string)
				var got string
				switch key {
				case "tpdu":
					got = hexUpper(p.TPDU[:])
				case "header":
					got = hexUpper(p.Header[:])
				case "mti":
					got = p.Message.MTI()
				case "bitmap":
					got = hexUpper(frame[13:21])
				default:
					n, err := strconv.Atoi(key)
					if err != nil {
						t.Fatalf("output %q is not understood", key)
					}
					got = p.Message.Text(n)
					if isBinary(n) {
						got = hexUpper([]byte(got))
					}
					checked++
				}
				if got != want {
					t.Errorf("%s differs", key)
				}
			}
			if checked != len(p.Message.Fields()) {
				t.Errorf("%d fields decoded, the vector has %d", len(p.Message.Fields()), checked)
			}
			again, err := p.Encode()
			if err != nil || !bytes.Equal(again, frame) {
				t.Errorf("encoding gives other bytes (%v)", err)
			}
		})
	}
}

func hexUpper(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }

func TestVectorsRefusals(t *testing.T) {
	t.Parallel()
	for _, v := range vectors.Load(t, "iso8583.json").Group(t, "unionpay_bad") {
		t.Run(v.ID, func(t *testing.T) {
			t.Parallel()
			p, err := Parse(vectors.Hex(t, v.In, "message"))
			checkRefusal(t, err, v.Out)
			if p == nil || p.Message == nil {
				t.Fatal("no packet to answer from")
			}
		})
	}
}

// checkRefusal compares reason and field with the vector.
func checkRefusal(t *testing.T, err error, out map[string]any) {
	t.Helper()
	var d *iso.DecodeError
	if !errors.As(err, &d) {
		t.Fatalf("error is %v, want a decode error", err)
	}
	if want := vectors.Str(out, "reject"); string(d.Reason) != want || want == "" {
		t.Errorf("reason %s, want %s", d.Reason, want)
	}
	want := 0
	switch f := vectors.Str(out, "field"); f {
	case "", "mti":
	case "bitmap":
		want = 1
	default:
		var convErr error
		if want, convErr = strconv.Atoi(f); convErr != nil {
			t.Fatalf("field %q is not understood", f)
		}
	}
	if d.Field != want {
		t.Errorf("stopped at field %d, want %d", d.Field, want)
	}
	if d.Partial == nil {
		t.Error("no partial message")
	}
}

// TestVectorsLengthPrefix takes the rows of the generic group that are our LL and LLL prefixes.
func TestVectorsLengthPrefix(t *testing.T) {
	t.Parallel()
	used := 0
	for _, v := range vectors.Load(t, "iso8583.json").Group(t, "length_prefix") {
		p, ok := map[string]iso.Prefix{"c1": ll, "c2": lll}[vectors.Str(v.In, "prefix")]
		if !ok {
			continue
		}
		used++
		maxLen, length := vectors.Int(v.In, "max", -1), vectors.Int(v.In, "length", -1)
		reject := vectors.Str(v.Out, "reject")
		if length >= 0 {
			got, err := p.EncodeLength(maxLen, length)
			switch {
			case reject != "":
				if !errors.Is(err, iso.Reason(reject)) {
					t.Errorf("%s: error %v, want %s", v.ID, err, reject)
				}
			case err != nil || !bytes.Equal(got, vectors.Hex(t, v.Out, "encoded")):
				t.Errorf("%s: wrote %X, %v", v.ID, got, err)
			default:
				back, read, err := p.DecodeLength(maxLen, got)
				if err != nil || back != length || read != len(got) {
					t.Errorf("%s: read back %d (%d bytes), %v", v.ID, back, read, err)
				}
			}
			continue
		}
		if _, _, err := p.DecodeLength(maxLen, vectors.Hex(t, v.In, "encoded")); !errors.Is(err, iso.Reason(reject)) {
			t.Errorf("%s: error %v, want %s", v.ID, err, reject)
		}
	}
	if used < 10 {
		t.Fatalf("only %d rows concern this dialect", used)
	}
}

// TestVectorsFieldTwo takes the rows of the field matrix that use our packed encoding and prefix.
func TestVectorsFieldTwo(t *testing.T) {
	t.Parallel()
	used := 0
	for _, v := range vectors.Load(t, "iso8583.json").Group(t, "field2_matrix") {
		spec, _ := v.In["spec"].(map[string]any)
		fields, _ := spec["fields"].(map[string]any)
		form := strings.Fields(vectors.Str(fields, "2"))
		enc := map[string]iso.Encoding{"bcdL": bcdLeft, "bcdLF": bcdLeft, "hexR": bcdRight}[form[2]]
		prefix := map[string]iso.Prefix{"F": iso.Fixed, "c1": ll, "c2": lll}[form[0]]
		if len(form) != 3 || enc == nil || prefix == nil {
			continue
		}
		used++
		length, err := strconv.Atoi(form[1])
		if err != nil {
			t.Fatal(err)
		}
		codec, err := iso.NewTable(&iso8583.MessageSpec{Name: v.ID, Fields: map[int]field.Field{
			0: iso.NewField(4, "mti", iso.Digits, iso.Fixed),
			1: field.NewBitmap(&field.Spec{Length: 8, Enc: iso.Hex, Pref: iso.Fixed}),
			2: iso.NewField(length, "two", enc, prefix),
		}})
		if err != nil {
			t.Fatal(err)
		}
		m, err := codec.Decode(vectors.Hex(t, v.In, "message"))
		if reject := vectors.Str(v.Out, "reject"); reject != "" {
			checkRefusal(t, err, v.Out)
			continue
		}
		if err != nil || m.Text(2) != vectors.Str(v.Out, "2") {
			t.Errorf("%s: %v", v.ID, err)
		}
	}
	if used < 3 {
		t.Fatalf("only %d rows concern this dialect", used)
	}
}
