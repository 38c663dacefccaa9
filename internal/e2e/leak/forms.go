package leak

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
)

// Secret is something that must not be found, in all its forms.
type Secret struct {
	name  string
	forms []form
	err   error
}

// form is one way to write a secret.
type form struct {
	name  string
	bytes []byte
}

const (
	// minDigits keeps numbers out that turn up by chance: of six digits (a usual PIN) a megabyte of random decimal text holds one.
	// It is also what gives a packed form of minForm bytes.
	minDigits = 12
	// minBytes is the shortest binary secret, a PIN block or a single DES key.
	minBytes = 8
	// minForm is the shortest pattern that the scanner takes: in a gigabyte of random bytes six of them turn up once in a quarter of a
	// million searches. A shorter form, which only a number of 12 digits packed from the middle of a byte has, is left out.
	minForm = prefixSize
)

// Number makes a secret of decimal digits: a card number or a long PIN. It has 12 digits or more.
func Number(name, digits string) Secret {
	if len(digits) < minDigits || strings.Trim(digits, "0123456789") != "" {
		return Secret{name: name, err: fmt.Errorf("%s: need %d digits or more, because shorter numbers occur by chance", name, minDigits)}
	}
	return Secret{name: name, forms: textForms(digits, digits)}
}

// Track makes a secret of a track 2, or of its part behind the card number; the separator is D or =.
func Track(name, track string) Secret {
	withD := strings.ReplaceAll(track, "=", "D")
	if len(withD) < minDigits || strings.Trim(withD, "0123456789D") != "" {
		return Secret{name: name, err: fmt.Errorf("%s: need %d digits or separators or more", name, minDigits)}
	}
	forms := textForms(withD, withD)
	if strings.Contains(withD, "D") {
		forms = append(forms, textForms(strings.ToLower(withD), "")...)
		forms = append(forms, textForms(strings.ReplaceAll(withD, "D", "="), "")...)
	}
	return Secret{name: name, forms: forms}
}

// Text makes a secret of any text of 12 characters or more, such as a password.
func Text(name, text string) Secret {
	if len(text) < minDigits {
		return Secret{name: name, err: fmt.Errorf("%s: need %d characters or more", name, minDigits)}
	}
	return Secret{name: name, forms: textForms(text, "")}
}

// Name is what findings call the secret.
func (s Secret) Name() string { return s.name }

// Plain is the value as the bytes that a careless program would write first; for tests that plant it.
func (s Secret) Plain() []byte {
	if len(s.forms) == 0 {
		return nil
	}
	return s.forms[0].bytes
}

// String hides the value.
func (s Secret) String() string { return s.name }

// GoString hides the value.
func (s Secret) GoString() string { return s.name }

// Binary makes a secret of 8 bytes or more: a clear key or a clear PIN block.
func Binary(name string, value []byte) Secret {
	if len(value) < minBytes {
		return Secret{name: name, err: fmt.Errorf("%s: need %d bytes or more", name, minBytes)}
	}
	forms := byteForms("", value)
	upper, lower := strings.ToUpper(hex.EncodeToString(value)), hex.EncodeToString(value)
	for _, text := range []string{upper, lower} {
		forms = append(forms, form{"hex", []byte(text)})
		forms = append(forms, wide("hex", text)...)
		forms = append(forms, form{"hex of hex", []byte(hex.EncodeToString([]byte(text)))}, form{"hex of hex", []byte(strings.ToUpper(hex.EncodeToString([]byte(text))))})
		forms = append(forms, base64Forms("hex, ", []byte(text))...)
		for _, between := range []string{" ", ":", "-"} {
			forms = append(forms, form{"hex with separators", []byte(separated(text, 2, between))})
		}
	}
	return Secret{name: name, forms: forms}
}

// textForms are the forms of a text; packed holds the nibbles when it can be packed, two to a byte.
func textForms(text, packed string) []form {
	forms := append([]form{{"text", []byte(text)}}, byteForms("text, ", []byte(text))[1:]...)
	forms = append(forms, wide("text", text)...)
	for _, h := range []string{hex.EncodeToString([]byte(text)), strings.ToUpper(hex.EncodeToString([]byte(text)))} {
		forms = append(forms, form{"hex of text", []byte(h)})
	}
	for _, between := range []string{" ", "-"} {
		forms = append(forms, form{"groups of four", []byte(separated(text, 4, between))})
	}
	// A number may begin in the left or in the right half of a byte, whatever stands in the other half.
	for start := 0; start < 2 && packed != ""; start++ {
		whole := packed[start : start+(len(packed)-start)/2*2]
		raw, err := hex.DecodeString(whole)
		if err == nil { // it consists of digits and D
			forms = append(forms, byteForms("packed, ", raw)...)
		}
	}
	return forms
}

// byteForms are the forms of bytes as they are: raw first, then base64 and the list of numbers.
func byteForms(prefix string, raw []byte) []form {
	forms := append([]form{{prefix + "bytes", raw}}, base64Forms(prefix, raw)...)
	numbers := make([]string, len(raw))
	for i, b := range raw {
		numbers[i] = strconv.Itoa(int(b))
	}
	for _, between := range []string{" ", ",", ", "} {
		forms = append(forms, form{prefix + "list of numbers", []byte(strings.Join(numbers, between))})
	}
	return forms
}

// base64Forms are the characters that do not depend on the neighbours, for each of the three places in a group of three bytes.
func base64Forms(prefix string, raw []byte) []form {
	var forms []form
	for shift := range 3 {
		padded := append(make([]byte, shift), raw...)
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			text := encoding.EncodeToString(padded)
			first := (8*shift + 5) / 6         // the first character that holds no bit of what stands before
			last := 8 * (shift + len(raw)) / 6 // and the end of those that hold no bit of what follows
			forms = append(forms, form{fmt.Sprintf("%sbase64 at %d", prefix, shift), []byte(text[first:last])})
		}
	}
	return forms
}

// wide is text as UTF-16 in both byte orders.
func wide(what, text string) []form {
	units := utf16.Encode([]rune(text))
	var little, big []byte
	for _, u := range units {
		little, big = binary.LittleEndian.AppendUint16(little, u), binary.BigEndian.AppendUint16(big, u)
	}
	return []form{{what + " as UTF-16LE", little}, {what + " as UTF-16BE", big}}
}

func separated(text string, size int, between string) string {
	var parts []string
	for len(text) > size {
		parts, text = append(parts, text[:size]), text[size:]
	}
	return strings.Join(append(parts, text), between)
}

// check joins what is wrong with the secrets.
func check(secrets []Secret) error {
	var errs []error
	for _, s := range secrets {
		errs = append(errs, s.err)
	}
	return errors.Join(errs...)
}
