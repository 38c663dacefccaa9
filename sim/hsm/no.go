package hsm

import "fmt"

// runNO answers the status (facts/hsm.md §1.2): mode 00 buffer size, network type, sockets and firmware, mode 01 the PCI
// flag.
func runNO(q *request) errorCode {
	mode := q.oneOf(2, "00", "01")
	if code := q.finish(); code != codeOK {
		return code
	}
	if mode == "01" {
		q.out = append(q.out, '0')
		return codeOK
	}
	// 3 = 32K buffer, 1 = TCP; two digits of sockets; five reserved characters at the end.
	q.out = fmt.Appendf(q.out, "31%02d%s00000", min(q.station.settings.sockets, 99), q.station.settings.firmware)
	return codeOK
}
