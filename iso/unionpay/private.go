package unionpay

import (
	"fmt"

	"github.com/keyward/keyward/iso"
	"github.com/keyward/keyward/iso/unionpay/kind"
)

// F60 is field 60 taken apart (facts/unionpay.md §2). All parts are digits; a part that the terminal left out is "", and a part that
// it cut short is short.
type F60 struct {
	Type     string // 60.1 n2: transaction type.
	Batch    string // 60.2 n6: batch number.
	Network  string // 60.3 n3: network management code, 000 in financial messages.
	ReadCap  string // 60.4 n1: 0 unknown, 2 magnetic only, 5 with contact chip, 6 with contactless.
	ICCond   string // 60.5 n1: chip condition; 2 is fallback.
	Partial  string // 60.6 n1: partial approval and balance returned are supported.
	Accounts string // 60.7 n3: account type, 048 or 065 points.
}

const (
	minF60 = 8  // Type and batch: very old terminals and signature uploads.
	maxF60 = 17 // All parts.
	maxF61 = 29
)

// ParseF60 takes field 60 apart: 8 to 17 digits.
func ParseF60(s string) (F60, error) {
	if len(s) < minF60 || len(s) > maxF60 {
		return F60{}, fmt.Errorf("field 60 has %d digits, want %d to %d", len(s), minF60, maxF60)
	}
	var f F60
	err := split("field 60", s, part{2, &f.Type}, part{6, &f.Batch}, part{3, &f.Network}, part{1, &f.ReadCap},
		part{1, &f.ICCond}, part{1, &f.Partial}, part{3, &f.Accounts})
	return f, err
}

// String joins the parts to the field's digits. Only the last of the parts that are there may be short.
func (f F60) String() string {
	return f.Type + f.Batch + f.Network + f.ReadCap + f.ICCond + f.Partial + f.Accounts
}

// F61 is field 61 taken apart: what an earlier message was. Shorter values are normal; missing parts are "".
type F61 struct {
	Batch      string // 61.1 n6: original batch.
	Trace      string // 61.2 n6: original trace.
	Date       string // 61.3 n4 MMDD: original date.
	AuthMode   string // 61.4 n2: original authorization mode.
	AuthCentre string // 61.5 n11: original authorization centre.
}

// ParseF61 takes field 61 apart: at most 29 digits.
func ParseF61(s string) (F61, error) {
	if len(s) > maxF61 {
		return F61{}, fmt.Errorf("field 61 has %d digits, want at most %d", len(s), maxF61)
	}
	var f F61
	err := split("field 61", s, part{6, &f.Batch}, part{6, &f.Trace}, part{4, &f.Date}, part{2, &f.AuthMode}, part{11, &f.AuthCentre})
	return f, err
}

// String joins the parts to the field's digits.
func (f F61) String() string { return f.Batch + f.Trace + f.Date + f.AuthMode + f.AuthCentre }

type part struct {
	len int
	to  *string
}

func split(name, s string, parts ...part) error {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return fmt.Errorf("%s: position %d is not a digit", name, i+1)
		}
	}
	for _, p := range parts {
		n := min(p.len, len(s))
		*p.to, s = s[:n], s[n:]
	}
	return nil
}

// Classify says what a request is, by MTI, processing code, condition code and field 60; false where no row of the transaction
// table fits or field 60 cannot be read.
func Classify(m *iso.Message) (kind.Row, bool) {
	f60, err := ParseF60(m.Text(iso.Private60))
	if err != nil {
		return kind.Row{}, false
	}
	return kind.Of(kind.Key{
		MTI: m.MTI(), Processing: m.Text(iso.ProcessingCode), Condition: m.Text(iso.ConditionCode),
		Type: f60.Type, Network: f60.Network,
	})
}
