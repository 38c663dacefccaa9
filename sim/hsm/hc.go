package hsm

// runHC makes a TPK under a TMK and under the LMK (facts/hsm.md §1.3). With separated key types the TMK is an 80D and the
// TPK a 70D, so that neither can be used for the other.
func runHC(q *request) errorCode { return q.makeWorkingKey(q.tpkType()) }
