package pos

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// How the card is read.
const (
	EntrySwipe = "swipe" // magnetic stripe: F22 021 with PIN, 022 without
	EntryKeyed = "keyed" // typed in: F22 011 with PIN, 012 without
)

// maxAmountFen is what the 12 digits of F4 hold.
const maxAmountFen = 999_999_999_999

// Sale is what the cashier and the customer give. It is never logged or stored as it is.
type Sale struct {
	AmountFen int64  `json:"amount"` // 1/100 yuan; not used by a balance inquiry
	PAN       string `json:"pan"`
	PIN       string `json:"pin"`    // empty: without PIN
	Entry     string `json:"entry"`  // swipe or keyed; empty: swipe
	Track2    string `json:"track2"` // empty: made from the PAN

	// How the original is named, where there is one; all empty: the newest that the terminal remembers, whose card and amount serve where none
	// are given.
	OriginalTrace string `json:"original_trace,omitempty"`
	OriginalRRN   string `json:"original_rrn,omitempty"`
	AuthCode      string `json:"auth_code,omitempty"` // F38; also one got by voice for an offline sale
	ICData        string `json:"-"`                   // F55 of what carries chip data; empty: a test value
}

// String keeps card data out of logs.
func (s Sale) String() string {
	return fmt.Sprintf("%s of %d fen with card %s", s.Entry, s.AmountFen, maskPAN(s.PAN))
}

// Format keeps card data out of every print verb.
func (s Sale) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// LogValue keeps card data out of structured logs.
func (s Sale) LogValue() slog.Value { return slog.StringValue(s.String()) }

const testExpiry = "3012" // YYMM of the made-up cards

// complete checks a sale and fills in what a card reader would.
func (s Sale) complete() (Sale, error) {
	if s.Entry == "" {
		s.Entry = EntrySwipe
	}
	switch {
	case s.Entry != EntrySwipe && s.Entry != EntryKeyed:
		return s, fmt.Errorf("entry is %q, not swipe or keyed", s.Entry)
	case len(s.PAN) < 13 || len(s.PAN) > 19 || !digitsOnly(s.PAN):
		return s, errors.New("a card number has 13 to 19 digits")
	case s.PIN != "" && (len(s.PIN) < 4 || len(s.PIN) > 12 || !digitsOnly(s.PIN)):
		return s, errors.New("a PIN has 4 to 12 digits")
	}
	if s.Entry == EntryKeyed {
		s.Track2 = ""
		return s, nil
	}
	if s.Track2 == "" {
		// PAN, separator, expiry, service code 220, then digits of the issuer up to 37 in all.
		s.Track2 = s.PAN + "D" + testExpiry + "220"
		s.Track2 += strings.Repeat("123450", 3)[:37-len(s.Track2)]
	}
	s.Track2 = strings.ReplaceAll(s.Track2, "=", "D")
	if len(s.Track2) > 37 || strings.Trim(s.Track2, "0123456789D") != "" || !strings.HasPrefix(s.Track2, s.PAN+"D") {
		return s, errors.New("track 2 must be the card number, a separator and at most 37 characters in all")
	}
	return s, nil
}

// entryMode is F22.
func (s Sale) entryMode() string {
	mode := "02"
	if s.Entry == EntryKeyed {
		mode = "01"
	}
	if s.PIN != "" {
		return mode + "1"
	}
	return mode + "2"
}

// build makes a financial request without its MAC. The card enciphers PIN and track.
func (t *Terminal) build(mti, processing, field60, entryMode string, amountFen int64, card account, pin string) (packet, error) {
	p := t.message(mti)
	p.fields[3] = processing
	if amountFen > 0 {
		p.fields[4] = fmt.Sprintf("%012d", amountFen)
	}
	p.fields[22], p.fields[25], p.fields[49], p.fields[60] = entryMode, "00", "156", field60
	// F53: PIN format, algorithm, track encryption, then zeros (facts/unionpay.md §5).
	format, algorithm, tracks := "0", t.cfg.Model.digit(t.state.Scheme), "0"
	if card.Track2 == "" || t.cfg.PANWithTrack {
		p.fields[2] = card.PAN
	}
	if card.Track2 == "" {
		p.fields[14] = card.Expiry
	} else {
		p.fields[35] = card.Track2
		if t.state.Scheme == "004" || isSM4(t.state.Scheme) {
			enciphered, err := t.reader.track(card.Track2, isSM4(t.state.Scheme))
			if err != nil {
				return packet{}, err
			}
			p.fields[35], tracks = enciphered, "1"
		}
	}
	if pin != "" {
		if err := t.putPIN(p, pin, card.PAN); err != nil {
			return packet{}, err
		}
		format = "2"
	}
	if card.Track2 != "" || pin != "" {
		p.fields[53] = format + algorithm + tracks + strings.Repeat("0", 13)
	}
	return p, nil
}

// sign has the card compute F64.
func (t *Terminal) sign(p packet) error {
	mab, err := p.body(true)
	if err != nil {
		return err
	}
	mac, err := t.reader.mac(mab)
	if err != nil {
		return err
	}
	p.fields[64] = mac
	return nil
}

// field60 is type, batch, network code 000 and what the terminal can read.
func (t *Terminal) field60(kind string) string {
	return kind + t.state.Batch + "000" + t.cfg.Capability
}
