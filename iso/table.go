package iso

import (
	"fmt"
	"math/bits"

	"github.com/moov-io/iso8583"
	"github.com/moov-io/iso8583/field"
)

const (
	mtiDigits   = 4
	bitmapBytes = 8 // One bitmap: 64 fields.
	bitmapBit   = 1 // This bit of the first bitmap announces the second.
)

// Table is the codec of one dialect, made from its message spec. It holds no state and is safe for concurrent use.
type Table struct {
	mti       Encoding
	bitmap    Encoding
	secondary bool
	fields    [MaxField + 1]entry
}

type entry struct {
	enc    Encoding
	prefix Prefix
	max    int
}

// NewTable compiles a moov message spec. Field 0 is the MTI, field 1 a *field.Bitmap of 8 bytes: with DisableAutoExpand there is no
// second bitmap. Each field's encoder must be an Encoding and its prefixer a Prefix; padders, packers and composites are refused,
// because Table would not run them.
func NewTable(spec *iso8583.MessageSpec) (*Table, error) {
	if err := spec.Validate(); err != nil {
		return nil, fmt.Errorf("message spec %q: %w", spec.Name, err)
	}
	t := &Table{}
	for number, f := range spec.Fields {
		e, err := compile(f)
		if err != nil {
			return nil, fmt.Errorf("message spec %q, field %d: %w", spec.Name, number, err)
		}
		switch {
		case number == 0 && e.max == mtiDigits:
			t.mti = e.enc
		case number == 1 && e.max == bitmapBytes:
			t.bitmap, t.secondary = e.enc, !f.Spec().DisableAutoExpand
		case number >= firstField && number <= MaxField:
			t.fields[number] = e
		default:
			return nil, fmt.Errorf("message spec %q: field %d of length %d is not possible", spec.Name, number, e.max)
		}
	}
	return t, nil
}

// MustTable is NewTable for a spec that stands in the program: it panics at program start where the spec is wrong, which only a change of
// the dialect's own file can cause, and every test would fail.
func MustTable(spec *iso8583.MessageSpec) *Table {
	t, err := NewTable(spec)
	if err != nil {
		panic(err)
	}
	return t
}

// NewField makes a field of at most, or with Fixed exactly, length units. moov's String serves for binary fields too: it keeps bytes as
// they are.
func NewField(length int, name string, enc Encoding, prefix Prefix) field.Field {
	return field.NewString(&field.Spec{Length: length, Description: name, Enc: enc, Pref: prefix})
}

func compile(f field.Field) (entry, error) {
	s := f.Spec()
	if s == nil {
		return entry{}, fmt.Errorf("has no spec")
	}
	if s.Pad != nil || s.Packer != nil || s.Unpacker != nil || s.Subfields != nil {
		return entry{}, fmt.Errorf("padders, packers and subfields are not run")
	}
	enc, ok := s.Enc.(Encoding)
	if !ok {
		return entry{}, fmt.Errorf("encoder %T is not an iso.Encoding", s.Enc)
	}
	pre, ok := s.Pref.(Prefix)
	if !ok {
		return entry{}, fmt.Errorf("prefixer %T is not an iso.Prefix", s.Pref)
	}
	if s.Length <= 0 {
		return entry{}, fmt.Errorf("length %d is not possible", s.Length)
	}
	return entry{enc: enc, prefix: pre, max: s.Length}, nil
}

// Decode implements Codec. The message keeps no reference to data.
func (t *Table) Decode(data []byte) (*Message, error) {
	m := New("")
	// One copy of the message; text fields are parts of it.
	all := string(data)
	fail := func(field int, reason Reason) (*Message, error) {
		return nil, &DecodeError{Field: field, Reason: reason, Partial: m}
	}
	mti, at, err := t.mti.Value(all, mtiDigits)
	if err != nil {
		if reasonOf(err, BadMTI) == Short {
			return fail(0, Short)
		}
		return fail(0, BadMTI)
	}
	m.mti = mti
	var set [2]uint64
	for i := range set {
		word, read, err := t.bitmap.Value(all[at:], bitmapBytes)
		if err != nil {
			if reasonOf(err, BadBitmap) == Short {
				return fail(1, Short)
			}
			return fail(1, BadBitmap)
		}
		at += read
		set[i] = bitmapWord(word)
		if i == 0 && set[0]>>63 == 0 {
			break
		}
		if i == 0 && !t.secondary {
			return fail(1, UndefinedField)
		}
	}
	set[0] &^= 1 << 63
	for word := range set {
		for rest := set[word]; rest != 0; {
			lead := bits.LeadingZeros64(rest)
			rest &^= 1 << (63 - lead)
			number := word*64 + lead + 1
			e := &t.fields[number]
			if e.enc == nil {
				return fail(number, UndefinedField)
			}
			length, read, err := e.prefix.DecodeLength(e.max, data[at:])
			if err != nil {
				return fail(number, reasonOf(err, BadLength))
			}
			at += read
			value, read, err := e.enc.Value(all[at:], length)
			if err != nil {
				return fail(number, reasonOf(err, BadChar))
			}
			at += read
			m.Set(number, value)
		}
	}
	if at != len(data) {
		return fail(0, Trailing)
	}
	return m, nil
}

// bitmapWord reads eight bytes with field 1 as the highest bit.
func bitmapWord(s string) uint64 {
	var w uint64
	for i := range bitmapBytes {
		w = w<<8 | uint64(s[i])
	}
	return w
}

// encodeCapacity is the buffer that Encode starts with: most messages of our dialects are shorter.
const encodeCapacity = 512

// Encode implements Codec.
func (t *Table) Encode(m *Message) ([]byte, error) {
	return t.Append(make([]byte, 0, encodeCapacity), m)
}

// Append writes a message after dst, for callers that put a frame in front.
func (t *Table) Append(dst []byte, m *Message) ([]byte, error) {
	if len(m.mti) != mtiDigits || !isDigits(m.mti) {
		return nil, &EncodeError{Field: 0, Reason: BadMTI}
	}
	v := m.store()
	if v.bad != 0 {
		return nil, &EncodeError{Field: v.bad, Reason: UndefinedField}
	}
	dst, err := t.mti.Append(dst, m.mti)
	if err != nil {
		return nil, &EncodeError{Field: 0, Reason: reasonOf(err, BadMTI)}
	}
	words := [2]uint64{bits.Reverse64(v.present[0]), bits.Reverse64(v.present[1])}
	count := 1
	if words[1] != 0 {
		if !t.secondary {
			return nil, &EncodeError{Field: 65 + bits.LeadingZeros64(words[1]), Reason: UndefinedField}
		}
		words[0] |= 1 << (64 - bitmapBit)
		count = 2
	}
	for _, w := range words[:count] {
		if dst, err = t.bitmap.Append(dst, wordBitmap(w)); err != nil {
			return nil, &EncodeError{Field: 1, Reason: reasonOf(err, BadBitmap)}
		}
	}
	for word, rest := range v.present {
		for ; rest != 0; rest &= rest - 1 {
			number := word*64 + bits.TrailingZeros64(rest) + 1
			e := &t.fields[number]
			if e.enc == nil {
				return nil, &EncodeError{Field: number, Reason: UndefinedField}
			}
			value := v.value[number]
			if dst, err = e.prefix.AppendLength(dst, e.max, len(value)); err != nil {
				return nil, &EncodeError{Field: number, Reason: reasonOf(err, BadLength)}
			}
			if dst, err = e.enc.Append(dst, value); err != nil {
				return nil, &EncodeError{Field: number, Reason: reasonOf(err, BadChar)}
			}
		}
	}
	return dst, nil
}

func wordBitmap(w uint64) string {
	var b [bitmapBytes]byte
	for i := range b {
		b[i] = byte(w >> (56 - 8*i))
	}
	return string(b[:])
}
