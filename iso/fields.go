package iso

// Field numbers of ISO 8583:1987 under the names that the dialects use for them (facts/unionpay.md §2,
// docs/dialect-core.md §3). A number means the same thing in every dialect, apart from the private fields 46 to 63.
const (
	PAN                = 2  // Primary account number, n..19.
	ProcessingCode     = 3  // n6.
	Amount             = 4  // n12, smallest unit of the currency.
	TransmissionTime   = 7  // n10 MMDDhhmmss.
	Trace              = 11 // n6, system trace audit number.
	LocalTime          = 12 // n6 hhmmss.
	LocalDate          = 13 // n4 MMDD.
	Expiry             = 14 // n4 YYMM.
	SettlementDate     = 15 // n4 MMDD.
	MerchantType       = 18 // n4, merchant category code.
	EntryMode          = 22 // n3.
	CardSequence       = 23 // n3.
	ConditionCode      = 25 // n2.
	PINCaptureCode     = 26 // n2.
	Acquirer           = 32 // n..11, acquiring institution.
	Track2             = 35 // z..37, digits with = as separator.
	Track3             = 36 // z..104.
	Reference          = 37 // an12, retrieval reference number.
	AuthCode           = 38 // an6, authorization code.
	ResponseCode       = 39 // an2; the cause in a reversal request.
	Terminal           = 41 // ans8.
	Merchant           = 42 // ans15.
	MerchantName       = 43 // ans40, GBK.
	AdditionalResponse = 44 // an..25.
	Track1             = 45 // Not used by our dialects; named so that the mask knows it.
	DeviceData         = 46 // UnionPay: terminal and device data.
	AdditionalData     = 48 // UnionPay: settlement and batch digits; core: free text.
	Currency           = 49 // an3, 156.
	PINBlock           = 52 // b64.
	SecurityControl    = 53 // n16.
	Balance            = 54 // an, blocks of 20.
	ChipData           = 55 // EMV tag-length-value, raw bytes.
	TextAnswer         = 56 // UnionPay: GBK text.
	Private57          = 57
	Private58          = 58
	Private59          = 59
	Private60          = 60  // UnionPay: type, batch, network code as one digit string.
	OriginalMessage    = 61  // UnionPay: original batch, trace, date; core: retrieval reference of the original, an12.
	Private62          = 62  // UnionPay: work keys, serial numbers, SM4 PIN block, raw bytes.
	Private63          = 63  // UnionPay: operator, card organization, SM4 PIN block, raw bytes.
	MAC                = 64  // b64.
	NetworkCode        = 70  // n3, network management code (core).
	OriginalData       = 90  // n42, original data elements (core).
	MAC128             = 128 // b64, the MAC of a message with a secondary bitmap.
)

// MaxField is the highest field number that a Message can hold.
const MaxField = 128

// firstField is the lowest number of a field; 0 stands for the MTI and 1 for the bitmap.
const firstField = 2

// names holds the words of Dump, by field number.
var names = [MaxField + 1]string{
	PAN: "primary account number", ProcessingCode: "processing code", Amount: "amount",
	TransmissionTime: "transmission time", Trace: "trace", LocalTime: "local time", LocalDate: "local date", Expiry: "expiry",
	SettlementDate: "settlement date", MerchantType: "merchant type", EntryMode: "entry mode", CardSequence: "card sequence",
	ConditionCode: "condition code", PINCaptureCode: "PIN capture code", Acquirer: "acquirer", Track2: "track 2", Track3: "track 3",
	Reference: "retrieval reference", AuthCode: "authorization code", ResponseCode: "response code", Terminal: "terminal",
	Merchant: "merchant", MerchantName: "merchant name", AdditionalResponse: "additional response", Track1: "track 1",
	DeviceData: "device data", AdditionalData: "additional data", Currency: "currency", PINBlock: "PIN block",
	SecurityControl: "security control", Balance: "balance", ChipData: "chip data", TextAnswer: "text answer",
	Private57: "private 57", Private58: "private 58", Private59: "private 59", Private60: "private 60",
	OriginalMessage: "original message", Private62: "private 62", Private63: "private 63", MAC: "MAC",
	NetworkCode: "network code", OriginalData: "original data", MAC128: "MAC",
}

// Name is the name of a field in words, "" where there is none.
func Name(field int) string {
	if field < 0 || field > MaxField {
		return ""
	}
	return names[field]
}
