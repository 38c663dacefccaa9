package hsm

// runM2 deciphers data (facts/hsm.md §1.5).
func runM2(q *request) errorCode { return q.crypt(false) }
