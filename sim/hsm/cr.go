package hsm

import "crypto/rand"

// crMaxBytes is the most that one CR answers (facts/hsm.md §1.7.3).
const crMaxBytes = 2048

// runCR answers random bytes, the command of the Chinese set; its length has four digits.
func runCR(q *request) errorCode {
	return q.randomBytes(q.number(4, 10, 1, crMaxBytes))
}

// randomBytes is CR and N0.
func (q *request) randomBytes(n int) errorCode {
	if code := q.finish(); code != codeOK {
		return code
	}
	random := make([]byte, n)
	rand.Read(random)
	q.out = append(q.out, random...)
	return codeOK
}
