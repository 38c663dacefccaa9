package hsm

import (
	"fmt"
	"time"
)

// Delimiters of the list of LMKs in JK (facts/hsm.md §1.2).
const (
	jkNext = 0x14
	jkEnd  = 0x15
)

// runJK answers the state of the device: serial number, states, tampering, LMKs (facts/hsm.md §1.2, docs/hsm-sim.md §5.1).
func runJK(q *request) errorCode {
	if code := q.finish(); code != codeOK {
		return code
	}
	set := q.station.lmks
	loaded, test := 1, 0
	if set.variant.test {
		test++
	}
	if set.block != nil {
		loaded++
		if set.block.test {
			test++
		}
	}
	// Console and manager not running, host 1 running, host 2 not configured, two reserved, not tampered.
	q.out = fmt.Appendf(q.out, "%s%s%s%02d%02d%02d", q.station.settings.serial, time.Now().UTC().Format(dateTime), "2213"+"00"+"1", loaded, test, len(set.old))
	q.lmkState(variantLMKID, 'V', '0', set.variant.test)
	if set.block != nil {
		q.out = append(q.out, jkNext)
		q.lmkState(blockLMKID, 'K', '2', set.block.test)
	}
	// No fraud limit and no attack on PINs seen.
	q.out = append(q.out, jkEnd, '0', '0')
	return codeOK
}

// lmkState is one LMK of the list: id, not authorised, no activities, scheme, algorithm, live or test, comment.
func (q *request) lmkState(id string, scheme, algorithm byte, test bool) {
	state, comment := byte('L'), "simulated"
	if test {
		state, comment = 'T', "public test value"
	}
	q.out = fmt.Appendf(q.out, "%s000%c%c%c%s", id, scheme, algorithm, state, comment)
}
