package psam

// headerSize is CLA INS P1 P2 of a short APDU (ISO 7816-4); the card has no extended length.
const headerSize = 4

// status is the status word that ends every answer (facts/psam.md §3.6).
type status uint16

const (
	swOK             status = 0x9000
	swMemoryFailure  status = 0x6581 // the image could not be saved; nothing has changed
	swWrongLength    status = 0x6700
	swWrongClass     status = 0x6900 // CLA does not match the line protection
	swKeyLocked      status = 0x6983
	swNoChallenge    status = 0x6984
	swConditions     status = 0x6985
	swNoCurrentFile  status = 0x6986
	swWrongMAC       status = 0x6988 // MAC of secure messaging
	swWrongData      status = 0x6A80
	swFileNotFound   status = 0x6A82
	swRecordNotFound status = 0x6A83
	swWrongP1P2      status = 0x6A86
	swKeyNotFound    status = 0x6A88
	swWrongOffset    status = 0x6B00
	swWrongLe        status = 0x6C00 // low byte: the length that is there
	swUnknownINS     status = 0x6D00
	swUnknownCLA     status = 0x6E00
	swInternal       status = 0x6F00
	swCheckWrong     status = 0x9302 // KCV of a work key or MAC of a message wrong
)

// command is a parsed short APDU.
type command struct {
	cla, ins, p1, p2 byte
	data             []byte
	le               int // -1 when absent, 256 for Le = 00
	challenge        []byte
}

// parse splits a short APDU of case 1 to 4.
func parse(apdu []byte) (command, status) {
	if len(apdu) < headerSize {
		return command{}, swWrongLength
	}
	cmd := command{cla: apdu[0], ins: apdu[1], p1: apdu[2], p2: apdu[3], le: -1}
	body := apdu[headerSize:]
	switch {
	case len(body) == 0:
		return cmd, swOK
	case len(body) == 1:
		cmd.le = leValue(body[0])
		return cmd, swOK
	}
	lc := int(body[0])
	rest := body[1:]
	if lc == 0 {
		// Extended length begins with 00; the card speaks short APDUs of up to 255 data bytes only.
		return command{}, swWrongLength
	}
	switch len(rest) {
	case lc:
	case lc + 1:
		cmd.le = leValue(rest[lc])
	default:
		return command{}, swWrongLength
	}
	cmd.data = rest[:lc:lc]
	return cmd, swOK
}

func leValue(b byte) int {
	if b == 0 {
		return 256
	}
	return int(b)
}

// respond appends the status word to the data.
func respond(data []byte, sw status) []byte {
	if sw != swOK {
		data = nil
	}
	return append(append(make([]byte, 0, len(data)+2), data...), byte(sw>>8), byte(sw))
}
