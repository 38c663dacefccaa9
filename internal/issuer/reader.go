package issuer

import "context"

// Reader reaches cards. A driver is a package of its own below this one.
type Reader interface {
	// Connect powers the card of this number on.
	Connect(ctx context.Context, psamNo string) (Card, error)
}

// Card is a card in a reader.
type Card interface {
	// Transmit sends one command APDU and returns data and status word. An error means that the card or the reader is gone, and says
	// nothing of whether the card has carried the command out.
	Transmit(ctx context.Context, apdu []byte) ([]byte, error)
	// Close lets the card go.
	Close() error
}
