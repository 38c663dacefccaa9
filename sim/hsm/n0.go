package hsm

import "crypto/rand"

// runN0 answers random bytes (facts/hsm.md §1.2).
func runN0(q *request) errorCode {
	n := q.number(3, 10, 1, randomMaxBytes)
	if code := q.finish(); code != codeOK {
		return code
	}
	random := make([]byte, n)
	rand.Read(random)
	q.out = append(q.out, random...)
	return codeOK
}
