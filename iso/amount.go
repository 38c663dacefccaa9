package iso

import "fmt"

// amountDigits is the length of field 4 (ISO 8583:1987, n12).
const amountDigits = 12

// maxAmount is the largest amount that field 4 can hold, in fen.
const maxAmount = 999_999_999_999

// FormatAmount writes fen as the twelve digits of field 4. A negative amount, or one of more than twelve digits, is refused.
func FormatAmount(fen int64) (string, error) {
	if fen < 0 || fen > maxAmount {
		return "", fmt.Errorf("amount %d fen is outside 0 to %d: field 4 has twelve digits and no sign", fen, int64(maxAmount))
	}
	return fmt.Sprintf("%0*d", amountDigits, fen), nil
}

// ParseAmount reads the twelve digits of field 4 as fen.
func ParseAmount(s string) (int64, error) {
	if len(s) != amountDigits || !isDigits(s) {
		return 0, fmt.Errorf("amount of %d characters is not %d digits", len(s), amountDigits)
	}
	var fen int64
	for i := range len(s) {
		fen = fen*10 + int64(s[i]-'0')
	}
	return fen, nil
}

// AnswerMTI is the type of the answer to a request: third digit plus one, and a repeat (0401) is answered like the first (0410), as ISO
// 8583:1987 has it. ok is false where mti is not a request.
func AnswerMTI(mti string) (answer string, ok bool) {
	if len(mti) != 4 || !isDigits(mti) || (mti[2]-'0')%2 != 0 {
		return "", false
	}
	return string([]byte{mti[0], mti[1], mti[2] + 1, mti[3] &^ 1}), true
}
