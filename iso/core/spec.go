// Package core is the dialect between posp and the bank's core system: ISO 8583:1987 in ASCII, our own profile, laid down in
// docs/dialect-core.md.
//
// Spec is the dialect as data, Codec reads and writes messages, MAB gives the bytes that the MAC covers. A frame on TCP is a 2-byte
// big-endian length and the message; the functions here work on the message.
package core

import (
	"github.com/moov-io/iso8583"
	"github.com/moov-io/iso8583/field"

	"github.com/keyward/keyward/iso"
)

// MaxFrame is the longest message that either side sends or accepts, in bytes (docs/dialect-core.md §1).
const MaxFrame = 2048

// Network management codes of field 70 (docs/dialect-core.md §3).
const (
	SignOn  = "001"
	SignOff = "002"
	Echo    = "301"
)

// Spec is the dialect as a moov message spec (docs/dialect-core.md §3). Values: fields of type hex hold raw bytes, all others the text
// on the line.
func Spec() *iso8583.MessageSpec {
	return &iso8583.MessageSpec{
		Name: "Keyward core bank",
		Fields: map[int]field.Field{
			0: text(4, "message type", iso.Digits, iso.Fixed),
			1: field.NewBitmap(&field.Spec{Length: 8, Description: "bitmap", Enc: iso.Hex, Pref: iso.Fixed}),

			iso.PAN:                text(19, "primary account number", iso.Digits, ll),
			iso.ProcessingCode:     text(6, "processing code", iso.Digits, iso.Fixed),
			iso.Amount:             text(12, "amount", iso.Digits, iso.Fixed),
			iso.TransmissionTime:   text(10, "transmission date and time", iso.Digits, iso.Fixed),
			iso.Trace:              text(6, "trace", iso.Digits, iso.Fixed),
			iso.LocalTime:          text(6, "local time", iso.Digits, iso.Fixed),
			iso.LocalDate:          text(4, "local date", iso.Digits, iso.Fixed),
			iso.Expiry:             text(4, "expiry", iso.Digits, iso.Fixed),
			iso.SettlementDate:     text(4, "settlement date", iso.Digits, iso.Fixed),
			iso.MerchantType:       text(4, "merchant type", iso.Digits, iso.Fixed),
			iso.EntryMode:          text(3, "entry mode", iso.Digits, iso.Fixed),
			iso.CardSequence:       text(3, "card sequence number", iso.Digits, iso.Fixed),
			iso.ConditionCode:      text(2, "condition code", iso.Digits, iso.Fixed),
			iso.PINCaptureCode:     text(2, "PIN capture code", iso.Digits, iso.Fixed),
			iso.Acquirer:           text(11, "acquirer", iso.Digits, ll),
			iso.Track2:             text(37, "track 2", iso.Track, ll),
			iso.Track3:             text(104, "track 3", iso.Track, lll),
			iso.Reference:          text(12, "retrieval reference", iso.Alphanumeric, iso.Fixed),
			iso.AuthCode:           text(6, "authorization code", iso.Alphanumeric, iso.Fixed),
			iso.ResponseCode:       text(2, "response code", iso.Alphanumeric, iso.Fixed),
			iso.Terminal:           text(8, "terminal", iso.Printable, iso.Fixed),
			iso.Merchant:           text(15, "merchant", iso.Printable, iso.Fixed),
			iso.AdditionalResponse: text(25, "institutions", iso.Printable, ll),
			iso.AdditionalData:     text(255, "additional data", iso.Printable, lll),
			iso.Currency:           text(3, "currency", iso.Alphanumeric, iso.Fixed),
			iso.PINBlock:           text(8, "PIN block", iso.Hex, iso.Fixed),
			iso.SecurityControl:    text(16, "security control", iso.Digits, iso.Fixed),
			iso.Balance:            text(120, "additional amounts", iso.Alphanumeric, lll),
			iso.ChipData:           text(255, "chip data", iso.Hex, lllHex),
			iso.Private60:          text(60, "private data", iso.Printable, lll),
			iso.MAC:                text(macLen, "MAC, short form", iso.Hex, iso.Fixed),
			iso.NetworkCode:        text(3, "network management code", iso.Digits, iso.Fixed),
			iso.OriginalData:       text(42, "original data", iso.Digits, iso.Fixed),
			iso.MAC128:             text(macLen, "MAC", iso.Hex, iso.Fixed),
		},
	}
}

// text makes a field of at most, or exactly, length units. String is used for binary fields too: it keeps bytes as they are.
func text(length int, name string, enc iso.Encoding, prefix iso.Prefix) field.Field {
	return field.NewString(&field.Spec{Length: length, Description: name, Enc: enc, Pref: prefix})
}

// table is the compiled dialect.
var table = mustCompile()

// mustCompile panics at program start where Spec is wrong: only a change of this file can cause that, and every test would fail.
func mustCompile() *iso.Table {
	t, err := iso.NewTable(Spec())
	if err != nil {
		panic(err)
	}
	return t
}

// Codec reads and writes messages of the dialect.
func Codec() iso.Codec { return table }
