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
			0: iso.NewField(4, "message type", bcdRight, iso.Fixed),
			1: field.NewBitmap(&field.Spec{Length: 8, Description: "bitmap", Enc: iso.Raw, Pref: iso.Fixed, DisableAutoExpand: true}),

			iso.PAN:                iso.NewField(19, "primary account number", bcdLeft, ll),
			iso.ProcessingCode:     iso.NewField(6, "processing code", bcdRight, iso.Fixed),
			iso.Amount:             iso.NewField(12, "amount", bcdRight, iso.Fixed),
			iso.Trace:              iso.NewField(6, "terminal trace", bcdRight, iso.Fixed),
			iso.LocalTime:          iso.NewField(6, "local time", bcdRight, iso.Fixed),
			iso.LocalDate:          iso.NewField(4, "local date", bcdRight, iso.Fixed),
			iso.Expiry:             iso.NewField(4, "expiry", bcdRight, iso.Fixed),
			iso.SettlementDate:     iso.NewField(4, "settlement date", bcdRight, iso.Fixed),
			iso.EntryMode:          iso.NewField(3, "entry mode", bcdLeft, iso.Fixed),     // 0210: pad nibble at the right.
			iso.CardSequence:       iso.NewField(3, "card sequence", bcdRight, iso.Fixed), // 0001: zero nibble at the left.
			iso.ConditionCode:      iso.NewField(2, "condition code", bcdRight, iso.Fixed),
			iso.PINCaptureCode:     iso.NewField(2, "PIN capture code", bcdRight, iso.Fixed),
			iso.Acquirer:           iso.NewField(11, "acquirer", bcdLeft, ll),
			iso.Track2:             iso.NewField(37, "track 2", track, ll),
			iso.Track3:             iso.NewField(104, "track 3", track, lll),
			iso.Reference:          iso.NewField(12, "retrieval reference", iso.Alphanumeric, iso.Fixed),
			iso.AuthCode:           iso.NewField(6, "authorization code", iso.Alphanumeric, iso.Fixed),
			iso.ResponseCode:       iso.NewField(2, "response code", iso.Alphanumeric, iso.Fixed),
			iso.Terminal:           iso.NewField(8, "terminal", iso.Printable, iso.Fixed),
			iso.Merchant:           iso.NewField(15, "merchant", iso.Printable, iso.Fixed),
			iso.MerchantName:       iso.NewField(40, "merchant name", iso.Raw, iso.Fixed), // GBK.
			iso.AdditionalResponse: iso.NewField(25, "additional response", iso.Raw, ll),  // GBK in some hosts.
			iso.DeviceData:         iso.NewField(maxText, "device data", iso.Printable, lll),
			iso.AdditionalData:     iso.NewField(322, "settlement and batch data", bcdLeft, lll),
			iso.Currency:           iso.NewField(3, "currency", iso.Alphanumeric, iso.Fixed),
			iso.PINBlock:           iso.NewField(8, "PIN block", iso.Raw, iso.Fixed),
			iso.SecurityControl:    iso.NewField(16, "security control", bcdRight, iso.Fixed),
			iso.Balance:            iso.NewField(20, "balance", iso.Alphanumeric, lll),
			iso.ChipData:           iso.NewField(255, "chip data", iso.Raw, lll),
			iso.TextAnswer:         iso.NewField(maxText, "text answer", iso.Raw, lll), // GBK.
			iso.Private57:          iso.NewField(maxText, "private 57", iso.Printable, lll),
			iso.Private58:          iso.NewField(100, "private 58", iso.Printable, lll),
			iso.Private59:          iso.NewField(maxText, "private 59", iso.Printable, lll),
			iso.Private60:          iso.NewField(17, "type, batch, network code", bcdLeft, lll),
			iso.OriginalMessage:    iso.NewField(29, "original message", bcdLeft, lll),
			iso.Private62:          iso.NewField(512, "private 62", iso.Raw, lll),
			iso.Private63:          iso.NewField(163, "private 63", iso.Raw, lll),
			iso.MAC:                iso.NewField(8, "MAC", iso.Raw, iso.Fixed),
		},
	}
}

// table is the compiled dialect.
var table = iso.MustTable(Spec())

// Codec reads and writes the message alone, from the MTI on. Parse and Packet are for whole frames.
func Codec() iso.Codec { return table }
