package hsm

import "fmt"

// storedAt is the form of the time in KG: year to second, UTC.
const storedAt = "20060102150405"

// runKG tells what is stored under an index (facts/hsm.md §1.7.3, docs/hsm-sim.md §9.6).
func runKG(q *request) errorCode {
	index := q.number(4, 10, 1, 9999)
	if code := q.finish(); code != codeOK {
		return code
	}
	k, ok := q.station.storage.get(index)
	if !ok {
		return codeStorage
	}
	q.out = fmt.Appendf(q.out, "%s%c%s%02d%s%s", k.keyType, k.raw.letter, k.kcv, len(k.label), k.label, k.at.UTC().Format(storedAt))
	return codeOK
}
