package bank

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
)

// digestKey keys the digests of PANs and of message content. With the first six and last four digits shown beside it, a
// plain hash of a PAN could be searched through in a moment; it is derived from the ZAK because that is a secret the bank has
// anyway and that the state file does not hold.
type digestKey [sha256.Size]byte

func newDigestKey(zak []byte) digestKey {
	h := hmac.New(sha256.New, zak)
	h.Write([]byte("keyward bank simulator digest v1"))
	return digestKey(h.Sum(nil))
}

// of is the digest of a PAN, in hex.
func (k digestKey) of(pan string) string {
	h := hmac.New(sha256.New, k[:])
	h.Write([]byte(pan))
	return hex.EncodeToString(h.Sum(nil))
}

// content is the digest of what must be equal in a repeated message: fields 2, 3 and 4 (dialect §5.5). Each
// goes with its length, so that two different messages cannot run together to the same bytes.
func (k digestKey) content(m *message) (out [16]byte) {
	h := hmac.New(sha256.New, k[:])
	for _, field := range [...]int{2, 3, 4} {
		h.Write([]byte{byte(len(m.value[field]))})
		h.Write(m.value[field])
	}
	copy(out[:], h.Sum(nil))
	return out
}
