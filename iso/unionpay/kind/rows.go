package kind

// Rows is the table. Confidence is high unless a comment says otherwise; the sources are in facts/unionpay.md §3.
var Rows = []Row{
	financial("0200", "310000", "00", "01", Balance),
	financial("0200", "000000", "00", "22", Purchase),
	financial("0200", "200000", "00", "23", PurchaseVoid),
	financial("0220", "200000", "00", "25", Refund),
	financial("0100", "030000", "06", "10", PreAuth),
	financial("0100", "200000", "06", "11", PreAuthVoid),
	financial("0200", "000000", "06", "20", Completion),
	financial("0200", "200000", "06", "21", CompletionVoid),
	financial("0220", "000000", "06", "24", CompletionAdvice),
	financial("0220", "000000", "00", "30", OfflineSettlement),
	financial("0220", "000000", "00", "32", Adjustment),
	financial("0220", "000000", "00", "34", TipAdjustment),
	financial("0200", "000000", "00", "36", OfflinePurchase),
	financial("0220", "200000", "00", "27", OfflineRefund),
	financial("0200", "600000", "91", "45", LoadDesignated),
	financial("0200", "600000", "91", "40", LoadDesignated), // One source gives 40 for 45 (medium).
	financial("0200", "630000", "91", "46", LoadCash),
	financial("0200", "620000", "91", "47", LoadNonDesignated),
	financial("0200", "170000", "91", "51", LoadCashVoid),
	{Key: Key{MTI: "0200", Type: "54"}, Kind: ReservationPurchase}, // Medium; field 3 and 25 are not known.
	{Key: Key{MTI: "0200", Type: "53"}, Kind: ReservationVoid},     // Medium.
	{Key: Key{MTI: "0200", Type: "03"}, Kind: PointsBalance},       // Medium.

	// A reversal repeats field 3, 25 and 60.1 of the original. Balance, refund and advices are never reversed.
	reversal("030000", "06", "10", PreAuth),
	reversal("200000", "06", "11", PreAuthVoid),
	reversal("000000", "06", "20", Completion),
	reversal("200000", "06", "21", CompletionVoid),
	reversal("000000", "00", "22", Purchase),
	reversal("200000", "00", "23", PurchaseVoid),

	{Key: Key{MTI: "0620", Network: "951"}, Kind: ScriptResult},

	management("0800", "001", SignOn), // Single-length keys.
	management("0800", "003", SignOn), // Double-length keys.
	management("0800", "004", SignOn), // Double-length keys with TDK.
	management("0800", "005", SignOn), // SM4 at one host (low).
	management("0800", "006", SignOn), // SM4 at another host (low).
	management("0820", "002", SignOff),
	management("0820", "301", Echo),
	management("0820", "362", StatusUpload), // Terminal status.
	management("0820", "372", StatusUpload), // Version of the CA keys.
	management("0820", "373", StatusUpload), // Version of the SM CA keys.
	management("0820", "382", StatusUpload), // Version of the chip parameters.
	management("0800", "360", ParameterDownload),
	management("0800", "364", ParameterDownload),
	management("0800", "361", DownloadEnd),
	management("0800", "370", CAKeyDownload),
	management("0800", "373", CAKeyDownload), // SM.
	management("0800", "371", DownloadEnd),
	management("0800", "380", ICDownload),
	management("0800", "381", DownloadEnd),
	management("0800", "390", ListDownload), // Blacklist (medium, as the rest of this group).
	management("0800", "391", DownloadEnd),
	management("0800", "394", ListDownload), // Contactless parameters.
	management("0800", "395", DownloadEnd),
	management("0800", "396", ListDownload), // BIN tables.
	management("0800", "397", DownloadEnd),
	management("0800", "398", ListDownload),
	management("0800", "399", DownloadEnd),
	management("0800", "960", ListDownload),
	management("0800", "961", DownloadEnd),
	management("0800", "401", MasterKeyDownload), // Low.
	management("0800", "420", MasterKeyDownload), // Low.

	management("0500", "201", Settlement),
	management("0320", "201", BatchUpload), // Magnetic stripe details.
	management("0320", "202", BatchEnd),    // After an unbalanced settlement.
	management("0320", "203", BatchUpload), // Chip online, balanced (medium, as 204 to 206).
	management("0320", "204", BatchUpload), // Unbalanced.
	management("0320", "205", BatchUpload),
	management("0320", "206", BatchUpload),
	management("0320", "207", BatchEnd), // After a balanced settlement.

	// Hosts differ over the signature upload (medium).
	{Key: Key{MTI: "0820", Type: "07", Network: "301"}, Kind: SignatureUpload},
	{Key: Key{MTI: "0820", Network: "800"}, Kind: SignatureUpload},
	{Key: Key{MTI: "0820", Network: "801"}, Kind: SignatureUpload},
	{Key: Key{MTI: "0820", Network: "802"}, Kind: SignatureUpload},
	{Key: Key{MTI: "0820", Network: "803"}, Kind: SignatureUpload},
	{Key: Key{MTI: "0820", Network: "804"}, Kind: SignatureUpload},
	{Key: Key{MTI: "0820", Network: "805"}, Kind: SignatureUpload},
	{Key: Key{MTI: "0820", Network: "806"}, Kind: SignatureUpload},
	{Key: Key{MTI: "0820", Network: "807"}, Kind: SignatureUpload},
	{Key: Key{MTI: "0820", Network: "808"}, Kind: SignatureUpload},
	{Key: Key{MTI: "0820", Network: "809"}, Kind: SignatureUpload},
	{Key: Key{MTI: "0920", Type: "07"}, Kind: SignatureUpload},
	{Key: Key{Type: "01", Network: "710"}, Kind: SettlementInquiry}, // Low; the MTI is not known.
}

func financial(mti, processing, condition, transaction string, k Kind) Row {
	return Row{Key: Key{MTI: mti, Processing: processing, Condition: condition, Type: transaction}, Kind: k}
}

func reversal(processing, condition, transaction string, original Kind) Row {
	row := financial("0400", processing, condition, transaction, Reversal)
	row.Original = original
	return row
}

func management(mti, network string, k Kind) Row {
	return Row{Key: Key{MTI: mti, Type: "00", Network: network}, Kind: k}
}
