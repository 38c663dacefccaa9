package pos

import (
	"errors"
	"fmt"
	"slices"
)

// maxSold bounds the terminal's memory of approved transactions; the oldest are forgotten first. Enough for a demonstration, and
// small enough to be saved with every transaction.
const maxSold = 100

// sold is an approved transaction in the terminal's memory: what a later one needs of it.
type sold struct {
	Command   string `json:"command"`
	Batch     string `json:"batch"`
	Trace     string `json:"trace"`
	Date      string `json:"date,omitempty"` // MMDD, F13 of the answer
	RRN       string `json:"rrn,omitempty"`
	AuthCode  string `json:"auth_code,omitempty"`
	AmountFen int64  `json:"amount_fen"`
	Sealed    []byte `json:"sealed"`       // the account data, see sealAccount
	Of        string `json:"of,omitempty"` // batch and trace of its original
}

// id names a transaction within the terminal.
func (s sold) id() string { return s.Batch + s.Trace }

// remember keeps an approved transaction.
func (t *Terminal) remember(s sold) {
	if len(t.state.Sold) >= maxSold {
		t.state.Sold = slices.Delete(t.state.Sold, 0, len(t.state.Sold)-maxSold+1)
	}
	t.state.Sold = append(t.state.Sold, s)
}

// forget drops a transaction that has been reversed.
func (t *Terminal) forget(id string) {
	t.state.Sold = slices.DeleteFunc(t.state.Sold, func(s sold) bool { return s.id() == id })
}

// ended says that something stands which ends a transaction: a void, or the completion of a pre-authorization.
func (t *Terminal) ended(s sold) bool {
	return slices.ContainsFunc(t.state.Sold, func(later sold) bool {
		return later.Of == s.id() && trades[later.Command].ends && !t.ended(later)
	})
}

// original finds what a trade refers to: by trace, reference or authorization code as the sale gives them, or the newest that
// fits and has not been ended. A named one is not checked further: that is the host's business.
func (t *Terminal) original(k *trade, sale Sale) (sold, error) {
	named := sale.OriginalTrace != "" || sale.OriginalRRN != "" || sale.AuthCode != ""
	for _, s := range slices.Backward(t.state.Sold) {
		switch {
		case sale.OriginalTrace != "" && s.Trace != sale.OriginalTrace,
			sale.OriginalRRN != "" && s.RRN != sale.OriginalRRN,
			sale.AuthCode != "" && s.AuthCode != sale.AuthCode:
			continue
		case named && sale.PAN == "", slices.Contains(k.of, s.Command) && (named || !t.ended(s)):
			return s, nil
		}
	}
	switch {
	case named && sale.PAN != "":
		// A transaction of another terminal, or one that has been forgotten.
		s := sold{RRN: sale.OriginalRRN, AuthCode: sale.AuthCode}
		if sale.OriginalTrace != "" {
			s.Batch, s.Trace = t.state.Batch, sale.OriginalTrace
		}
		return s, nil
	case named:
		return sold{}, errors.New("the terminal does not remember that transaction: give the card number too")
	case k.free:
		return sold{}, nil
	}
	return sold{}, fmt.Errorf("the terminal remembers no transaction that this could refer to (one of %v): make one first, or name one by trace, reference or authorization code", k.of)
}

// refer writes how the request names its original: F37, F38 and F61 (facts/unionpay.md §2).
func (s sold) refer(p packet) {
	set := func(field int, value string) {
		if value != "" {
			p.fields[field] = value
		}
	}
	set(37, s.RRN)
	set(38, s.AuthCode)
	set(61, s.Batch+s.Trace+s.Date)
}

// takeCard fills the sale from its original: the card where none is given, the amount where none is given.
func (s sold) takeCard(sale Sale) (Sale, error) {
	if sale.PAN == "" && len(s.Sealed) > 0 {
		card, err := openAccount(s.Sealed)
		if err != nil {
			return sale, err
		}
		sale.PAN, sale.Track2, sale.Entry = card.PAN, card.Track2, EntrySwipe
		if card.Track2 == "" {
			sale.Entry = EntryKeyed
		}
	}
	if sale.AmountFen == 0 {
		sale.AmountFen = s.AmountFen
	}
	return sale, nil
}
