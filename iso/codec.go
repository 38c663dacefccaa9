// Package iso holds what all ISO 8583 dialects share: field numbers by name, the message, its masking, the reasons of
// refusal, and the table-driven codec that runs a dialect's moov-io message spec.
//
// A dialect (iso/unionpay, iso/core) is data: a moov-io message spec whose fields use encodings and prefixes that implement Encoding
// and Prefix. Table runs that spec itself instead of through moov's Message, because the stock message needs some 70 allocations, cannot
// say where it stopped, keeps the raw message inside its errors and accepts trailing bytes (facts/platform.md "ISO 8583").
// The dialects' tests hold every packet against moov's own message with the same spec.
package iso

// Codec turns messages into the bytes of one dialect and back. Implementations are safe for concurrent use.
type Codec interface {
	// Decode reads one whole message, from the MTI to the last byte of data. A refusal is a *DecodeError.
	Decode(data []byte) (*Message, error)
	// Encode writes a message. A refusal is an *EncodeError.
	Encode(m *Message) ([]byte, error)
}

var _ Codec = (*Table)(nil)
