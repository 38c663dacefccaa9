package hsm

// runS4 deciphers binary data, the inverse of S3 (facts/hsm.md §1.7.3, docs/hsm-sim.md §5.5).
func runS4(q *request) errorCode { return q.cardCrypt(false) }
