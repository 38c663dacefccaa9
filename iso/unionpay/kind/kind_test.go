package kind

import "testing"

// TestEveryRowIsFound looks every row up by a request that has all parts, and checks that no two rows have the same key.
func TestEveryRowIsFound(t *testing.T) {
	t.Parallel()
	if len(index) != len(Rows) {
		t.Errorf("%d rows, %d different keys", len(Rows), len(index))
	}
	for _, row := range Rows {
		k := row.Key
		fill := func(s *string, other string) {
			if *s == "" {
				*s = other
			}
		}
		fill(&k.MTI, "0800")
		fill(&k.Type, "00")
		// What a terminal sends in the parts that the row leaves open.
		if row.Processing == "" && row.MTI == "0200" {
			fill(&k.Processing, "000000")
			fill(&k.Condition, "00")
		}
		if row.Processing != "" {
			fill(&k.Network, "000")
		}
		got, ok := Of(k)
		if !ok || got.Kind != row.Kind || got.Original != row.Original {
			t.Errorf("%+v is %q", k, got.Kind)
		}
	}
}

func TestKindsByExample(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		key      Key
		kind     Kind
		original Kind
	}{
		{Key{"0200", "000000", "00", "22", "000"}, Purchase, ""},
		{Key{"0200", "310000", "00", "01", "000"}, Balance, ""},
		{Key{"0400", "000000", "00", "22", "000"}, Reversal, Purchase},
		{Key{"0400", "000000", "06", "20", "000"}, Reversal, Completion},
		{Key{"0800", "", "", "00", "004"}, SignOn, ""},
		{Key{"0820", "", "", "00", "002"}, SignOff, ""},
		{Key{"0820", "", "", "00", "301"}, Echo, ""},
		{Key{"0820", "", "", "07", "301"}, SignatureUpload, ""},
		{Key{"0620", "000000", "00", "22", "951"}, ScriptResult, ""},
		{Key{"0200", "", "", "01", "710"}, SettlementInquiry, ""},
	} {
		row, ok := Of(c.key)
		if !ok || row.Kind != c.kind || row.Original != c.original {
			t.Errorf("%+v is %q of %q", c.key, row.Kind, row.Original)
		}
	}
	for _, k := range []Key{
		{}, {MTI: "0200"}, {"0200", "000000", "00", "23", "000"}, {"0400", "310000", "00", "01", "000"}, {"0400", "200000", "00", "25", "000"},
		{"0800", "", "", "00", "002"}, {"0210", "000000", "00", "22", "000"}, {"0820", "", "", "00", "004"},
	} {
		if row, ok := Of(k); ok {
			t.Errorf("%+v is %q, want none", k, row.Kind)
		}
	}
}
