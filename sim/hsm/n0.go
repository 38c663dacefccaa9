package hsm

// runN0 answers random bytes (facts/hsm.md §1.2).
func runN0(q *request) errorCode { return q.randomBytes(q.number(3, 10, 1, randomMaxBytes)) }
