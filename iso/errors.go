package iso

import (
	"errors"
	"fmt"
)

// Reason says in one word why bytes are not a message, or why a message cannot be written. It is an error itself, so that encoders and
// prefixers can return it; it never holds content. The words are those of the vector file iso8583.json.
type Reason string

// The reasons.
const (
	Short          Reason = "short"           // A fixed part, a bitmap or a value runs past the end, or a value has the wrong fixed length.
	ShortLength    Reason = "short-length"    // A length prefix runs past the end.
	BadLength      Reason = "bad-length"      // A length prefix is not made of digits, or not a length that the field can have.
	LengthOverMax  Reason = "length-over-max" // A length above the maximum of the field.
	BadDigit       Reason = "bad-digit"       // Something else than a digit in a digit field.
	BadChar        Reason = "bad-char"        // A character that the field's type does not allow.
	BadHex         Reason = "bad-hex"         // Something else than 0-9, A-F in a hexadecimal field.
	BadMTI         Reason = "bad-mti"         // The message type is not four digits.
	BadBitmap      Reason = "bad-bitmap"      // The bitmap cannot be read.
	UndefinedField Reason = "undefined-field" // A field that the dialect does not have.
	Trailing       Reason = "trailing"        // Bytes after the last field.
)

// Error implements error.
func (r Reason) Error() string { return string(r) }

// DecodeError says where and why decoding stopped. Its text never holds field content, so it may be logged.
type DecodeError struct {
	// Field is the field at which the decoder stopped: 0 is the MTI, or the message as a whole where Reason is Trailing; 1 is the bitmap.
	Field int
	// Reason is the class of the fault.
	Reason Reason
	// Partial holds the MTI and the fields before the fault: what an answer with response code 30 may echo. It is never nil. The MTI is
	// empty where that was the fault.
	Partial *Message
}

// Error implements error.
func (e *DecodeError) Error() string {
	return fmt.Sprintf("decode message: %s: %s", place(e.Field), e.Reason)
}

// Unwrap gives the reason, so that errors.Is(err, iso.Trailing) works.
func (e *DecodeError) Unwrap() error { return e.Reason }

// EncodeError says which field of a message cannot be written and why. Its text never holds field content.
type EncodeError struct {
	// Field is the field's number; 0 is the MTI.
	Field int
	// Reason is the class of the fault.
	Reason Reason
}

// Error implements error.
func (e *EncodeError) Error() string {
	return fmt.Sprintf("encode message: %s: %s", place(e.Field), e.Reason)
}

// Unwrap gives the reason.
func (e *EncodeError) Unwrap() error { return e.Reason }

func place(field int) string {
	switch field {
	case 0:
		return "mti"
	case 1:
		return "bitmap"
	}
	return fmt.Sprintf("field %d", field)
}

// reasonOf finds the reason in an error of an encoder or prefixer.
func reasonOf(err error, otherwise Reason) Reason {
	var r Reason
	if errors.As(err, &r) {
		return r
	}
	return otherwise
}
