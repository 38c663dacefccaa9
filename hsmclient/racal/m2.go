package racal

const (
	// cmdM2 deciphers: mode 2N · input format 1N · output format 1N · key type 3H · key · length 4H · data → length 4H ·
	// data (facts/hsm.md §1.5).
	cmdM2 = "M2"

	m2ECBBinary = "0000" // ECB, binary in, binary out
)

var trackM2 = tracker{cmd: cmdM2, front: m2ECBBinary}
