package hsm

// runCC translates a PIN block from one ZPK to another (facts/hsm.md §1.4).
func runCC(q *request) errorCode { return q.translatePIN(typeZPK, fromZPK) }
