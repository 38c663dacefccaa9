package hsm

// runNC answers the check value of an LMK and the firmware number; the Chinese set adds the serial number (facts/hsm.md §1.2, §1.7.3).
func runNC(q *request) errorCode {
	if code := q.finish(); code != codeOK {
		return code
	}
	check := q.station.lmks.variant.check
	if q.blocks {
		check = q.station.lmks.block.check
	}
	q.out = append(append(q.out, check...), q.station.settings.firmware...)
	if q.station.settings.chinese {
		q.out = append(q.out, q.station.settings.serial...)
	}
	return codeOK
}
