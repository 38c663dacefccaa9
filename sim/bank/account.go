package bank

import (
	"crypto/cipher"
	"fmt"
	"log/slog"
	"strings"
)

// maxWrongPINs is how many wrong PINs an account bears: the next message with a PIN is answered 75, right or wrong
// (dialect §5.3). A right PIN before that clears the count.
const maxWrongPINs = 10

// Account is one card with its money.
type Account struct {
	PAN     string // 13 to 19 digits.
	PIN     string // 4 to 12 digits; empty: no PIN set.
	Balance int64  // Smallest unit of the currency (fen).
}

// String shows the masked PAN only.
func (a Account) String() string { return "account " + maskPAN(a.PAN) }

// GoString shows the masked PAN only.
func (a Account) GoString() string { return a.String() }

// LogValue shows the masked PAN only.
func (a Account) LogValue() slog.Value { return slog.StringValue(a.String()) }

// DefaultAccounts are the accounts of the dev system: two with a PIN and one without, 1,000,000.00 each.
func DefaultAccounts() []Account {
	const balance = 1_000_000_00
	return []Account{
		{PAN: "6222020000000000018", PIN: "123456", Balance: balance},
		{PAN: "6222020000000000026", PIN: "654321", Balance: balance},
		{PAN: "6222020000000000034", Balance: balance},
	}
}

// account is an Account at work. The book's lock guards balance, held and wrongPINs; the rest never changes.
type account struct {
	opening   int64
	masked    string
	digest    string // Keyed digest of the PAN, for the state file.
	hasPIN    bool
	pinBlock  [desBlock]byte // Clear format 0 block to compare with.
	panField  [desBlock]byte
	balance   int64
	held      int64 // Of the balance, by pre-authorizations in force.
	wrongPINs int
}

func newAccount(a Account, key digestKey) (*account, error) {
	const minPAN, maxPAN = 13, 19 // ISO/IEC 7812-1 allows fewer digits, a format 0 PIN block does not.
	if len(a.PAN) < minPAN || len(a.PAN) > maxPAN || !digits([]byte(a.PAN)) {
		return nil, fmt.Errorf("account: PAN must be %d to %d digits", minPAN, maxPAN)
	}
	if a.Balance < 0 || a.Balance > maxAmount {
		return nil, fmt.Errorf("%s: balance must be 0 to %d", a, int64(maxAmount))
	}
	out := &account{
		opening: a.Balance, balance: a.Balance,
		masked: maskPAN(a.PAN), digest: key.of(a.PAN), hasPIN: a.PIN != "",
	}
	var err error
	if out.panField, err = panFieldISO0(a.PAN); err != nil {
		return nil, fmt.Errorf("%s: %w", a, err)
	}
	if out.hasPIN {
		if out.pinBlock, err = pinFieldISO0(a.PIN, a.PAN); err != nil {
			return nil, fmt.Errorf("%s: %w", a, err)
		}
	}
	return out, nil
}

// pinVerdict is what a PIN block says, found before the book is locked.
type pinVerdict uint8

const (
	pinAbsent pinVerdict = iota // No field 52: the terminal did not ask.
	pinRight
	pinWrong
	pinUnset  // A PIN came for an account that has none.
	pinBroken // Not a format 0 block of this card under the zone PIN key.
)

// judgePIN decrypts and compares. The count of wrong PINs is the book's affair.
func (a *account) judgePIN(zpk cipher.Block, field52 []byte) pinVerdict {
	if len(field52) == 0 {
		return pinAbsent
	}
	right, err := pinMatches(zpk, decodeBlock(field52), a.pinBlock, a.panField)
	switch {
	case err != nil:
		return pinBroken
	case !a.hasPIN:
		return pinUnset
	case right:
		return pinRight
	}
	return pinWrong
}

// acceptPIN counts and decides; "" means go on. The caller holds the book's lock.
func (a *account) acceptPIN(verdict pinVerdict) string {
	if verdict == pinAbsent {
		return "" // Whether a PIN is asked is the terminal's decision (dialect §5.3).
	}
	if a.wrongPINs >= maxWrongPINs {
		return codePINTries
	}
	switch verdict {
	case pinRight:
		a.wrongPINs = 0
		return ""
	case pinWrong:
		a.wrongPINs++
		return codeWrongPIN
	case pinUnset:
		// Approving would make any PIN right. It is no guess at a PIN either, so it does not count.
		return codeWrongPIN
	default:
		return codeSystem // Keys or PAN do not fit together: nobody typed a wrong PIN, so nothing is counted.
	}
}

// maskPAN shows the first six and last four digits. What is too short to hide anything that way is hidden whole.
func maskPAN(pan string) string {
	const head, tail, least = 6, 4, 13
	if len(pan) < least {
		return strings.Repeat("*", len(pan))
	}
	return pan[:head] + strings.Repeat("*", len(pan)-head-tail) + pan[len(pan)-tail:]
}
