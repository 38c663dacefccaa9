package iso

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/keyward/keyward/keys/secret"
)

// shape is what a field must look like to be shown. A value of another shape is hidden, so that nothing slips through under
// the number of a harmless field.
type shape struct {
	digits bool // Only 0-9; otherwise letters, digits, space and a few marks.
	max    int
}

// shown is the list of fields that may be printed. Everything that is not here is hidden: a new field is secret until somebody
// decides otherwise. Field 2 is shown masked, field 53 where only its three control digits are set.
var shown = map[int]shape{
	ProcessingCode: {true, 6}, Amount: {true, 12}, TransmissionTime: {true, 10}, Trace: {true, 6}, LocalTime: {true, 6},
	LocalDate: {true, 4}, SettlementDate: {true, 4}, MerchantType: {true, 4}, EntryMode: {true, 3}, CardSequence: {true, 3},
	ConditionCode: {true, 2}, PINCaptureCode: {true, 2}, Acquirer: {true, 11}, Reference: {false, 12}, AuthCode: {false, 6},
	ResponseCode: {false, 2}, Terminal: {false, 8}, Merchant: {false, 15}, Currency: {false, 3}, Private60: {true, 17},
	OriginalMessage: {true, 29}, NetworkCode: {true, 3}, OriginalData: {true, 42},
}

// controlDigits is how many leading digits of field 53 carry meaning; the rest must be zero to be shown.
const controlDigits = 3

// masked is the printable form of a field's value.
func masked(field int, value string) string {
	hidden := "***(" + strconv.Itoa(len(value)) + ")"
	switch field {
	case PAN:
		return secret.MaskPAN(value)
	case SecurityControl:
		if len(value) == 16 && isDigits(value) && strings.Trim(value[controlDigits:], "0") == "" {
			return value
		}
		return hidden
	}
	s, ok := shown[field]
	if !ok || len(value) > s.max || (s.digits && !isDigits(value)) {
		return hidden
	}
	for i := range len(value) {
		if !isWordChar(value[i]) {
			return hidden
		}
	}
	return value
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

func isWordChar(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c == ' ' || c == '-' || c == '.' || c == '_'
}

// maskedMTI shows a message type only where it is one.
func (m *Message) maskedMTI() string {
	if len(m.mti) == 4 && isDigits(m.mti) {
		return m.mti
	}
	return "????"
}

// Dump is the masked message for people: one line per field with number, name and value. The card number shows first six and last
// four digits; every field that is not known as harmless shows as *** with its length. It ends without a line break.
func (m *Message) Dump() string {
	var b strings.Builder
	b.WriteString("MTI " + m.maskedMTI())
	for _, f := range m.Fields() {
		name := Name(f)
		if name == "" {
			name = "unknown"
		}
		fmt.Fprintf(&b, "\n%3d %-22s %s", f, name, masked(f, m.Text(f)))
	}
	return b.String()
}

// String is the masked message in one line: the type, then number=value for each field.
func (m *Message) String() string {
	if m == nil {
		return "<nil>"
	}
	var b strings.Builder
	b.WriteString(m.maskedMTI())
	for _, f := range m.Fields() {
		b.WriteString(" " + strconv.Itoa(f) + "=" + masked(f, m.Text(f)))
	}
	return b.String()
}

// Format implements fmt.Formatter: every verb gives the masked line.
func (m *Message) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(m.String())) }

// LogValue implements slog.LogValuer with the masked line.
func (m *Message) LogValue() slog.Value { return slog.StringValue(m.String()) }

// MarshalJSON gives the masked line. A message is never read back from it.
func (m *Message) MarshalJSON() ([]byte, error) { return json.Marshal(m.String()) }

var (
	_ fmt.Formatter  = (*Message)(nil)
	_ slog.LogValuer = (*Message)(nil)
	_ json.Marshaler = (*Message)(nil)
)
