package iso

import (
	"math/bits"

	"github.com/keyward/keyward/keys/secret"
)

// Message is one ISO 8583 message: a message type and up to 128 fields. Text and digit fields hold text (digits as ASCII, all
// leading zeros kept), binary fields hold raw bytes; the dialect knows which is which. The zero value is an empty message.
//
// A Message prints masked under every verb, in JSON and in slog (see Dump). It is not safe for concurrent writing.
type Message struct {
	mti string
	// Two pointers deep, so that fmt, which follows one pointer inside an unexported field of a foreign struct when a verb does not
	// fit, still reaches no field value.
	hidden **values
}

// values holds the fields. Presence is kept apart from the value, since an empty value is a value.
type values struct {
	present [2]uint64 // Bit n-1 of word 0 is field n; word 1 holds the fields from 65 on.
	bad     int       // The first impossible field number that was set; Encode refuses it.
	value   [MaxField + 1]string
}

// box makes a message in one allocation.
type box struct {
	message Message
	pointer *values
	values  values
}

// New makes a message without fields. The MTI is checked when the message is encoded.
func New(mti string) *Message {
	b := &box{}
	b.pointer = &b.values
	b.message.mti = mti
	b.message.hidden = &b.pointer
	return &b.message
}

// MTI is the message type, four digits.
func (m *Message) MTI() string { return m.mti }

// SetMTI changes the message type.
func (m *Message) SetMTI(mti string) { m.mti = mti }

// Set sets a field to a text. A field number outside 2 to 128 makes Encode refuse the message.
func (m *Message) Set(field int, value string) {
	v := m.store()
	if field < firstField || field > MaxField {
		if v.bad == 0 {
			v.bad = field
			if field == 0 {
				v.bad = -1
			}
		}
		return
	}
	v.value[field] = value
	v.present[(field-1)/64] |= 1 << ((field - 1) % 64)
}

// SetBytes sets a field to a copy of raw bytes.
func (m *Message) SetBytes(field int, value []byte) { m.Set(field, string(value)) }

// Get returns the value of a field and whether it is there. For a binary field the string holds the raw bytes.
func (m *Message) Get(field int) (string, bool) {
	if !m.Has(field) {
		return "", false
	}
	return (*m.hidden).value[field], true
}

// Text is Get for callers to whom an absent field is an empty one.
func (m *Message) Text(field int) string {
	s, _ := m.Get(field)
	return s
}

// Bytes returns a copy of the value of a field and whether it is there.
func (m *Message) Bytes(field int) ([]byte, bool) {
	s, ok := m.Get(field)
	if !ok {
		return nil, false
	}
	return []byte(s), true
}

// Has says whether a field is there.
func (m *Message) Has(field int) bool {
	if field < firstField || field > MaxField || m.hidden == nil {
		return false
	}
	return (*m.hidden).present[(field-1)/64]&(1<<((field-1)%64)) != 0
}

// Unset takes a field away.
func (m *Message) Unset(field int) {
	if !m.Has(field) {
		return
	}
	v := *m.hidden
	v.value[field] = ""
	v.present[(field-1)/64] &^= 1 << ((field - 1) % 64)
}

// Fields lists the numbers of the fields that are there, in ascending order.
func (m *Message) Fields() []int {
	if m.hidden == nil {
		return nil
	}
	v := *m.hidden
	list := make([]int, 0, bits.OnesCount64(v.present[0])+bits.OnesCount64(v.present[1]))
	for word, set := range v.present {
		for ; set != 0; set &= set - 1 {
			list = append(list, word*64+bits.TrailingZeros64(set)+1)
		}
	}
	return list
}

// Copy sets the listed fields to the values that another message has; fields that it lacks are left as they are.
func (m *Message) Copy(from *Message, fields ...int) {
	for _, f := range fields {
		if value, ok := from.Get(f); ok {
			m.Set(f, value)
		}
	}
}

// Clone makes an independent copy.
func (m *Message) Clone() *Message {
	c := New(m.mti)
	if m.hidden != nil {
		**c.hidden = **m.hidden
	}
	return c
}

// Equal says whether both have the same type, the same fields and the same values. It is not constant-time: compare
// MACs with crypto/subtle.
func (m *Message) Equal(other *Message) bool {
	var none values
	a, b := &none, &none
	if m.hidden != nil {
		a = *m.hidden
	}
	if other.hidden != nil {
		b = *other.hidden
	}
	return m.mti == other.mti && a.present == b.present && a.value == b.value
}

// CardNumber is field 2 as a secret; the zero PAN where there is none. The error does not show the value.
func (m *Message) CardNumber() (secret.PAN, error) {
	s, ok := m.Get(PAN)
	if !ok {
		return secret.PAN{}, nil
	}
	return secret.ParsePAN(s)
}

// Secret is the value of any field in a type that never prints it: PIN block, tracks, key blocks. An absent field is empty.
func (m *Message) Secret(field int) secret.Bytes {
	return secret.NewString(m.Text(field))
}

func (m *Message) store() *values {
	if m.hidden == nil {
		v := &values{}
		m.hidden = &v
	}
	return *m.hidden
}
