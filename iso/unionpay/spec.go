// Package unionpay is the dialect between POS terminals and posp: ISO 8583:1987 as UnionPay's direct-connect terminals speak it
// (Q/CUP 009 as far as public sources show it; facts/unionpay.md §1 to §6).
//
// Spec is the dialect as data. Parse reads a frame without its 2-byte length, Packet.Encode writes one. Strict throughout: undefined
// fields, bit 1, lengths above a field's maximum, non-digits and trailing bytes are refused with the field and the reason.
package unionpay

import (
	"github.com/moov-io/iso8583"
	"github.com/moov-io/iso8583/field"

	"github.com/keyward/keyward/iso"
)

// MaxFrame is the longest possible frame, TPDU, caller id and header included, rounded up: what a listener has to accept at most.
const MaxFrame = 8192

// maxText bounds the text fields for which the sources give no maximum: what an LLL prefix can say.
const maxText = 999

// Spec is the dialect as a moov message spec (facts/unionpay.md §2). Values: digit fields as ASCII digits, field 35 and 36 as digits
// with = for the separator nibble D (an enciphered part may hold A, B, C, E, F too), others as the bytes on the line.
func Spec() *iso8583.MessageSpec {
	return &iso8583.MessageSpec{
		Name: "UnionPay POS",
		Fields: map[int]field.Field{
			0: text(4, "message type", bcdRight, iso.Fixed),
			1: field.NewBitmap(&field.Spec{Length: 8, Description: "bitmap", Enc: iso.Raw, Pref: iso.Fixed, DisableAutoExpand: true}),

			iso.PAN:                text(19, "primary account number", bcdLeft, ll),
			iso.ProcessingCode:     text(6, "processing code", bcdRight, iso.Fixed),
			iso.Amount:             text(12, "amount", bcdRight, iso.Fixed),
			iso.Trace:              text(6, "terminal trace", bcdRight, iso.Fixed),
			iso.LocalTime:          text(6, "local time", bcdRight, iso.Fixed),
			iso.LocalDate:          text(4, "local date", bcdRight, iso.Fixed),
			iso.Expiry:             text(4, "expiry", bcdRight, iso.Fixed),
			iso.SettlementDate:     text(4, "settlement date", bcdRight, iso.Fixed),
			iso.EntryMode:          text(3, "entry mode", bcdLeft, iso.Fixed),     // 0210: pad nibble at the right.
			iso.CardSequence:       text(3, "card sequence", bcdRight, iso.Fixed), // 0001: zero nibble at the left.
			iso.ConditionCode:      text(2, "condition code", bcdRight, iso.Fixed),
			iso.PINCaptureCode:     text(2, "PIN capture code", bcdRight, iso.Fixed),
			iso.Acquirer:           text(11, "acquirer", bcdLeft, ll),
			iso.Track2:             text(37, "track 2", track, ll),
			iso.Track3:             text(104, "track 3", track, lll),
			iso.Reference:          text(12, "retrieval reference", iso.Alphanumeric, iso.Fixed),
			iso.AuthCode:           text(6, "authorization code", iso.Alphanumeric, iso.Fixed),
			iso.ResponseCode:       text(2, "response code", iso.Alphanumeric, iso.Fixed),
			iso.Terminal:           text(8, "terminal", iso.Printable, iso.Fixed),
			iso.Merchant:           text(15, "merchant", iso.Printable, iso.Fixed),
			iso.MerchantName:       text(40, "merchant name", iso.Raw, iso.Fixed), // GBK.
			iso.AdditionalResponse: text(25, "additional response", iso.Raw, ll),  // GBK in some hosts.
			iso.DeviceData:         text(maxText, "device data", iso.Printable, lll),
			iso.AdditionalData:     text(322, "settlement and batch data", bcdLeft, lll),
			iso.Currency:           text(3, "currency", iso.Alphanumeric, iso.Fixed),
			iso.PINBlock:           text(8, "PIN block", iso.Raw, iso.Fixed),
			iso.SecurityControl:    text(16, "security control", bcdRight, iso.Fixed),
			iso.Balance:            text(20, "balance", iso.Alphanumeric, lll),
			iso.ChipData:           text(255, "chip data", iso.Raw, lll),
			iso.TextAnswer:         text(maxText, "text answer", iso.Raw, lll), // GBK.
			iso.Private57:          text(maxText, "private 57", iso.Printable, lll),
			iso.Private58:          text(100, "private 58", iso.Printable, lll),
			iso.Private59:          text(maxText, "private 59", iso.Printable, lll),
			iso.Private60:          text(17, "type, batch, network code", bcdLeft, lll),
			iso.OriginalMessage:    text(29, "original message", bcdLeft, lll),
			iso.Private62:          text(512, "private 62", iso.Raw, lll),
			iso.Private63:          text(163, "private 63", iso.Raw, lll),
			iso.MAC:                text(8, "MAC", iso.Raw, iso.Fixed),
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

// Codec reads and writes the message alone, from the MTI on. Parse and Packet are for whole frames.
func Codec() iso.Codec { return table }
