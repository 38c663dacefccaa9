package pos

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// shownFields may stand in a dump as they are. Every other field is hidden whole, so that a field that somebody adds to
// the table is hidden until somebody decides otherwise.
var shownFields = map[int]bool{
	3: true, 4: true, 11: true, 12: true, 13: true, 15: true, 22: true, 23: true, 25: true, 26: true, 32: true, 37: true,
	38: true, 39: true, 41: true, 42: true, 44: true, 49: true, 53: true, 54: true, 60: true, 61: true,
}

// Dump is a message for people: PAN masked to its first six and last four digits; PIN block, tracks, keys and MAC hidden.
type Dump struct {
	// Raw is the message in hex from the TPDU on, hidden nibbles shown as '*'.
	Raw string `json:"raw"`
	// Fields are lines such as "F4   000000000100".
	Fields []string `json:"fields"`
}

func (p packet) dump() *Dump {
	d := &Dump{Fields: []string{"MTI  " + p.mti}}
	body, err := p.body(false)
	if err != nil {
		// What cannot be packed again is not shown at all.
		return d
	}
	raw := strings.Builder{}
	raw.WriteString(p.tpdu + p.header + hexText(body[:mtiSize+bitmapSize]))
	for _, n := range p.numbers() {
		value := p.fields[n]
		packed, err := packField(n, value)
		if err != nil {
			return d
		}
		head := hexText(packed[:fieldTable[n].kind.lengthBytes()])
		switch {
		case n == 2:
			masked := maskPAN(value)
			raw.WriteString(head + masked + strings.Repeat("0", len(masked)%2))
			d.Fields = append(d.Fields, fmt.Sprintf("F%-3d %s", n, masked))
		case shownFields[n] || n == 62 && p.mti == "0800" || n == 63 && len(value) == 3:
			// F62 of a sign-on request is a serial number; F63 of 3 characters is an operator or a card organisation.
			raw.WriteString(hexText(packed))
			d.Fields = append(d.Fields, fmt.Sprintf("F%-3d %s", n, printable(value)))
		default:
			raw.WriteString(head + strings.Repeat("*", 2*len(packed)-len(head)))
			d.Fields = append(d.Fields, fmt.Sprintf("F%-3d *** (length %d)", n, len(value)))
		}
	}
	d.Raw = raw.String()
	return d
}

// maskPAN shows the first six and last four digits. What is shorter than a card number is hidden whole.
func maskPAN(pan string) string {
	const head, tail, shortest = 6, 4, 13
	if len(pan) < shortest {
		return strings.Repeat("*", len(pan))
	}
	return pan[:head] + strings.Repeat("*", len(pan)-head-tail) + pan[len(pan)-tail:]
}

// printable shows text as it is and anything else in hex.
func printable(s string) string {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7E {
			return "hex " + strings.ToUpper(hex.EncodeToString([]byte(s)))
		}
	}
	return s
}
