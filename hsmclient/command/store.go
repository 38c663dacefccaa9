package command

import (
	"context"

	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
)

// NewKey asks for a new random key that stays in the device under a label.
type NewKey struct {
	Domain    string // LMK domain whose devices may keep it; empty: the default one
	Label     string // unique in the device
	Usage     keys.Usage
	Algorithm keys.Algorithm
}

// KeyStorer makes keys that stay in the device. It is never sent twice: without an answer the caller gets class Unknown and has to
// look what the device holds. The cryptogram of the answer names the place in the device.
type KeyStorer interface {
	StoreKey(ctx context.Context, req NewKey) (keys.Wrapped, error)
}

// DataKey is a key for data outside the device: clear for use in memory, wrapped for storage.
type DataKey struct {
	Clear   secret.Key // 32 bytes
	Wrapped []byte     // under the key-encrypting key, opaque
}

// DataKeyMaker makes and opens data keys under a key-encrypting key of usage Seal. Data keys protect stored records, never PINs or
// working keys.
type DataKeyMaker interface {
	MakeDataKey(ctx context.Context, kek keys.Wrapped) (DataKey, error)
	OpenDataKey(ctx context.Context, kek keys.Wrapped, wrapped []byte) (secret.Key, error)
}

// ZoneKey is a key under a zone master key, on its way between two LMK domains or to another party.
type ZoneKey struct {
	Usage     keys.Usage
	Algorithm keys.Algorithm
	Version   int
	Cipher    string   // scheme letter and hex, or a key block
	KCV       keys.KCV // as the sender's device gave it
}

// ZoneExchanger moves keys under a zone master key. Only a group of the HSM that is made for key migration allows it (P1).
type ZoneExchanger interface {
	ExportUnderZMK(ctx context.Context, zmk, key keys.Wrapped) (ZoneKey, error)
	// ImportUnderZMK returns the key under the LMK of zmk's domain.
	ImportUnderZMK(ctx context.Context, zmk keys.Wrapped, key ZoneKey) (keys.Wrapped, error)
}

// LMKTranslator moves a key from an old LMK to the present one inside one device that holds both. It exports nothing.
type LMKTranslator interface {
	// TranslateLMK returns the key in domain to. The device must hold the LMK of key.Domain as its old LMK.
	TranslateLMK(ctx context.Context, key keys.Wrapped, to string) (keys.Wrapped, error)
}
