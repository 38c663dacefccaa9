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
			0: iso.NewField(4, "message type", iso.Digits, iso.Fixed),
			1: field.NewBitmap(&field.Spec{Length: 8, Description: "bitmap", Enc: iso.Hex, Pref: iso.Fixed}),

			iso.PAN:                iso.NewField(19, "primary account number", iso.Digits, ll),
			iso.ProcessingCode:     iso.NewField(6, "processing code", iso.Digits, iso.Fixed),
			iso.Amount:             iso.NewField(12, "amount", iso.Digits, iso.Fixed),
			iso.TransmissionTime:   iso.NewField(10, "transmission date and time", iso.Digits, iso.Fixed),
			iso.Trace:              iso.NewField(6, "trace", iso.Digits, iso.Fixed),
			iso.LocalTime:          iso.NewField(6, "local time", iso.Digits, iso.Fixed),
			iso.LocalDate:          iso.NewField(4, "local date", iso.Digits, iso.Fixed),
			iso.Expiry:             iso.NewField(4, "expiry", iso.Digits, iso.Fixed),
			iso.SettlementDate:     iso.NewField(4, "settlement date", iso.Digits, iso.Fixed),
			iso.MerchantType:       iso.NewField(4, "merchant type", iso.Digits, iso.Fixed),
			iso.EntryMode:          iso.NewField(3, "entry mode", iso.Digits, iso.Fixed),
			iso.CardSequence:       iso.NewField(3, "card sequence number", iso.Digits, iso.Fixed),
			iso.ConditionCode:      iso.NewField(2, "condition code", iso.Digits, iso.Fixed),
			iso.PINCaptureCode:     iso.NewField(2, "PIN capture code", iso.Digits, iso.Fixed),
			iso.Acquirer:           iso.NewField(11, "acquirer", iso.Digits, ll),
			iso.Track2:             iso.NewField(37, "track 2", iso.Track, ll),
			iso.Track3:             iso.NewField(104, "track 3", iso.Track, lll),
			iso.Reference:          iso.NewField(12, "retrieval reference", iso.Alphanumeric, iso.Fixed),
			iso.AuthCode:           iso.NewField(6, "authorization code", iso.Alphanumeric, iso.Fixed),
			iso.ResponseCode:       iso.NewField(2, "response code", iso.Alphanumeric, iso.Fixed),
			iso.Terminal:           iso.NewField(8, "terminal", iso.Printable, iso.Fixed),
			iso.Merchant:           iso.NewField(15, "merchant", iso.Printable, iso.Fixed),
			iso.AdditionalResponse: iso.NewField(25, "institutions", iso.Printable, ll),
			iso.AdditionalData:     iso.NewField(255, "additional data", iso.Printable, lll),
			iso.Currency:           iso.NewField(3, "currency", iso.Alphanumeric, iso.Fixed),
			iso.PINBlock:           iso.NewField(8, "PIN block", iso.Hex, iso.Fixed),
			iso.SecurityControl:    iso.NewField(16, "security control", iso.Digits, iso.Fixed),
			iso.Balance:            iso.NewField(120, "additional amounts", iso.Alphanumeric, lll),
			iso.ChipData:           iso.NewField(255, "chip data", iso.Hex, lllHex),
			iso.Private60:          iso.NewField(60, "private data", iso.Printable, lll),
			iso.OriginalMessage:    iso.NewField(12, "original reference", iso.Alphanumeric, iso.Fixed),
			iso.MAC:                iso.NewField(macLen, "MAC, short form", iso.Hex, iso.Fixed),
			iso.NetworkCode:        iso.NewField(3, "network management code", iso.Digits, iso.Fixed),
			iso.OriginalData:       iso.NewField(42, "original data", iso.Digits, iso.Fixed),
			iso.MAC128:             iso.NewField(macLen, "MAC", iso.Hex, iso.Fixed),
		},
	}
}

// table is the compiled dialect.
var table = iso.MustTable(Spec())

// Codec reads and writes messages of the dialect.
func Codec() iso.Codec { return table }
