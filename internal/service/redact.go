package service

import (
	"context"
	"encoding"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strconv"
	"strings"

	"github.com/keyward/keyward/keys/secret"
)

// What the safety net looks for.
const (
	minCardDigits = 13                  // ISO/IEC 7812-1 card numbers in use have 13
	maxCardDigits = 19                  // to 19 digits
	minHexRun     = 32                  // a double-length DES, AES-128 or SM4 key in hex
	pemBegin      = "-----BEGIN "       // RFC 7468 §2
	pemEnd        = "-----END "         // RFC 7468 §2
	hiddenHex     = "[hex hidden]"      // stands for a long run of hex digits
	hiddenPEM     = "[PEM hidden]"      // stands for a PEM block
	minByteRun    = 8                   // numbers of a printed byte slice: a single DES key has 8
	hiddenBytes   = "[bytes hidden]"    // stands for a byte slice printed as numbers
	minCardNumber = 1_000_000_000_000.0 // the smallest 13-digit number
)

// redactor is a slog.Handler that masks what looks like a card number, a key or a PEM block before another handler sees it. It is
// the last safety net: the secret types are the first. It can mask too much (a 14-digit number that passes the Luhn check by
// chance), never too little of what it knows.
type redactor struct{ next slog.Handler }

var _ slog.Handler = redactor{}

// Enabled implements slog.Handler.
func (r redactor) Enabled(ctx context.Context, l slog.Level) bool { return r.next.Enabled(ctx, l) }

// Handle implements slog.Handler.
func (r redactor) Handle(ctx context.Context, rec slog.Record) error {
	out := slog.NewRecord(rec.Time, rec.Level, redactText(rec.Message), rec.PC)
	rec.Attrs(func(a slog.Attr) bool {
		out.AddAttrs(redactAttr(a))
		return true
	})
	return r.next.Handle(ctx, out)
}

// WithAttrs implements slog.Handler.
func (r redactor) WithAttrs(attrs []slog.Attr) slog.Handler {
	clean := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		clean[i] = redactAttr(a)
	}
	return redactor{r.next.WithAttrs(clean)}
}

// WithGroup implements slog.Handler.
func (r redactor) WithGroup(name string) slog.Handler {
	return redactor{r.next.WithGroup(redactText(name))}
}

// redactAttr masks key and value.
func redactAttr(a slog.Attr) slog.Attr {
	a.Key = redactText(a.Key)
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindString:
		v = slog.StringValue(redactText(v.String()))
	case slog.KindInt64:
		v = redactNumber(v, float64(v.Int64()), strconv.FormatInt(v.Int64(), 10))
	case slog.KindUint64:
		v = redactNumber(v, float64(v.Uint64()), strconv.FormatUint(v.Uint64(), 10))
	case slog.KindFloat64:
		v = redactNumber(v, v.Float64(), strconv.FormatFloat(v.Float64(), 'f', -1, 64))
	case slog.KindGroup:
		group := v.Group()
		clean := make([]slog.Attr, len(group))
		for i, g := range group {
			clean[i] = redactAttr(g)
		}
		v = slog.GroupValue(clean...)
	case slog.KindAny:
		v = redactAny(v)
	default: // bool, duration and time hold no card number
	}
	a.Value = v
	return a
}

// redactNumber masks a number that could be a card number.
func redactNumber(v slog.Value, size float64, digits string) slog.Value {
	if size < minCardNumber && size > -minCardNumber {
		return v
	}
	if clean := redactText(digits); clean != digits {
		return slog.StringValue(clean)
	}
	return v
}

// redactAny looks at every form in which a handler could print the value. If one holds a secret, a text replaces it.
func redactAny(v slog.Value) slog.Value {
	x := v.Any()
	if x == nil {
		return v
	}
	if t := reflect.TypeOf(x); (t.Kind() == reflect.Slice || t.Kind() == reflect.Array) && t.Elem().Kind() == reflect.Uint8 {
		// Bytes have no business in a log, and a handler may print them in base64, where nothing can be recognised. (net.IP
		// and the like know how to print themselves.)
		if _, ok := x.(encoding.TextMarshaler); !ok {
			return slog.StringValue(fmt.Sprintf("[%d bytes]", reflect.ValueOf(x).Len()))
		}
	}
	text := fmt.Sprintf("%+v", x)
	clean := hideByteRuns(redactText(text))
	if _, isError := x.(error); !isError {
		// Base64 in JSON hides bytes from the net, but then the printed form above shows them as numbers.
		if b, err := json.Marshal(x); err == nil && redactText(string(b)) != string(b) {
			return slog.StringValue(hideByteRuns(redactText(string(b))))
		}
	}
	if clean != text {
		return slog.StringValue(clean)
	}
	return v
}

// redactText masks card numbers, long hex runs and PEM blocks. Text without any comes back as it is, with no allocation.
func redactText(s string) string {
	if len(s) < minCardDigits {
		return s
	}
	if strings.Contains(s, pemBegin) {
		s = hidePEM(s)
	}
	var out strings.Builder
	kept := 0 // s[:kept] is in out already
	for i := 0; i < len(s); {
		if !isHex(s[i]) {
			i++
			continue
		}
		end := i + 1
		for end < len(s) && isHex(s[end]) {
			end++
		}
		if end-i >= minCardDigits {
			if run := redactRun(s[i:end]); run != s[i:end] {
				out.WriteString(s[kept:i])
				out.WriteString(run)
				kept = end
			}
		}
		i = end
	}
	if kept == 0 {
		return s
	}
	out.WriteString(s[kept:])
	return out.String()
}

// redactRun masks one run of hex digits, whole or the card numbers in it.
func redactRun(run string) string {
	if len(run) >= minHexRun {
		return hiddenHex
	}
	out := run
	for i := 0; i < len(run); {
		if !isDigit(run[i]) {
			i++
			continue
		}
		end := i + 1
		for end < len(run) && isDigit(run[end]) {
			end++
		}
		if n := end - i; n >= minCardDigits && n <= maxCardDigits && luhn(run[i:end]) {
			out = out[:i] + secret.MaskPAN(run[i:end]) + out[end:] // the mask is as long as the number
		}
		i = end
	}
	return out
}

// hidePEM replaces each block; one without an end hides the rest of the text.
func hidePEM(s string) string {
	for {
		begin := strings.Index(s, pemBegin)
		if begin < 0 {
			return s
		}
		rest := s[begin:]
		end := strings.Index(rest, pemEnd)
		if end < 0 {
			return s[:begin] + hiddenPEM
		}
		after := rest[end+len(pemEnd):]
		if i := strings.Index(after, "-----"); i >= 0 {
			after = after[i+len("-----"):]
		} else {
			after = ""
		}
		s = s[:begin] + hiddenPEM + after
	}
}

// hideByteRuns replaces runs of at least minByteRun numbers up to 255 with a space or comma between, the printed form of a
// byte slice within a struct.
func hideByteRuns(s string) string {
	for i := 0; i < len(s); i++ {
		if !isDigit(s[i]) || (i > 0 && isDigit(s[i-1])) {
			continue
		}
		count, end := 0, i
		for j := i; j < len(s); {
			k := j
			for k < len(s) && isDigit(s[k]) {
				k++
			}
			if n, err := strconv.Atoi(s[j:k]); err != nil || n > 255 {
				break
			}
			count, end = count+1, k
			if k >= len(s) || (s[k] != ' ' && s[k] != ',') {
				break
			}
			j = k + 1
		}
		if count >= minByteRun {
			return s[:i] + hiddenBytes + hideByteRuns(s[end:])
		}
		i = max(i, end-1)
	}
	return s
}

// luhn is the check of ISO/IEC 7812-1 Annex B.
func luhn(digits string) bool {
	sum := 0
	for i := range len(digits) {
		d := int(digits[len(digits)-1-i] - '0')
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}

func isDigit(b byte) bool { return b >= '0' && b <= '9' }

func isHex(b byte) bool {
	return isDigit(b) || (b|0x20 >= 'a' && b|0x20 <= 'f')
}
