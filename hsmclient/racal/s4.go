package racal

const (
	// cmdS4 deciphers on Chinese boxes: mode 2N · type 3H · key · levels 2N · session 2N · padding 2N · length 4H · data → length 4H · data
	// (facts/hsm.md §1.7.3; widths assumed in docs/hsm-sim.md §5.5).
	cmdS4 = "S4"

	s4ECB   = "00"
	s4Plain = "000005" // no levels, no session key, no padding
)

var trackS4 = tracker{cmd: cmdS4, front: s4ECB, behind: s4Plain}
