package txn

import (
	"crypto/sha256"
	"fmt"
)

// rrnAlphabet has no letter that can be taken for a digit or another letter when read over the telephone.
const rrnAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// HostReference derives trace (6 digits) and retrieval reference number (12 characters, 60 bits) for the host from the
// duplicate key and the business date (YYYY-MM-DD). The same request always gets the same reference, so the host recognises a
// repeat even when two instances of posp could not see each other (design.md §4).
func HostReference(k Key, businessDate string) (trace, rrn string) {
	h := sha256.New()
	for _, part := range []string{"keyward host reference 1", k.Terminal, k.Merchant, k.Batch, k.Trace, k.MTI, k.Type, businessDate} {
		fmt.Fprintf(h, "%d:%s,", len(part), part)
	}
	sum := h.Sum(nil)
	out := make([]byte, 12)
	for i := range out {
		out[i] = rrnAlphabet[sum[i]%32]
	}
	n := uint32(sum[16])<<24 | uint32(sum[17])<<16 | uint32(sum[18])<<8 | uint32(sum[19])
	return fmt.Sprintf("%06d", n%1_000_000), string(out)
}
