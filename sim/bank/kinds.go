package bank

// currency is the only one this bank keeps, field 49.
const currency = "156"

// kindKey decides what a financial message is.
type kindKey struct {
	mti        string
	processing string // Field 3.
}

// kind is one row of what the bank can do. A new one (refund, pre-authorisation) is a row here; what is not here is
// answered 12.
type kind struct {
	name     string
	required []int // Fields a request must have, dialect §5.
	debit    int64 // Times the amount of field 4 leaves the account: 1 debit, -1 credit, 0 moves nothing.
}

var kinds = map[kindKey]*kind{
	{"0200", "000000"}: {name: "purchase", required: []int{2, 3, 4, 7, 11, 12, 13, 22, 25, 32, 37, 41, 42, 49}, debit: 1},
	{"0200", "310000"}: {name: "balance", required: []int{2, 3, 7, 11, 12, 13, 22, 25, 32, 37, 41, 42, 49}},
}

// reversalRequired are the fields of 0400 and 0401.
var reversalRequired = []int{2, 3, 4, 7, 11, 22, 25, 32, 37, 39, 41, 42, 49, 90}

// networkRequired are the fields of 0800.
var networkRequired = []int{7, 11, 32, 70}

// kindDebit finds the direction of a booked record again; records keep the name because the state file does.
func kindDebit(name string) int64 {
	for _, k := range kinds {
		if k.name == name {
			return k.debit
		}
	}
	return 0
}
