package hsm

// runB2 echoes data (facts/hsm.md §1.2).
func runB2(q *request) errorCode {
	n := q.number(4, 16, 0, maxMessage)
	data := q.take(n)
	if code := q.finish(); code != codeOK {
		return code
	}
	q.out = append(q.out, data...)
	return codeOK
}
