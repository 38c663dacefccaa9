package hsm

// runNC answers the LMK check value and the firmware number (facts/hsm.md §1.2).
func runNC(q *request) errorCode {
	if code := q.finish(); code != codeOK {
		return code
	}
	q.out = append(append(q.out, q.lmk.check...), q.settings.firmware...)
	return codeOK
}
