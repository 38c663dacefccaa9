// Package command holds the words of HSM work: requests, results, the small capability interfaces, and the errors. Drivers
// implement the capabilities they can, the client (package hsmclient) offers the same capabilities over many devices,
// and callers name just those that they need. It is a data package: nothing here does anything.
//
// The requests are device-neutral; the bytes of the Racal/Thales family are in hsmclient/racal, with facts/hsm.md as source.
package command

import (
	"context"

	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
)

// WorkKey asks for a new random working key: returned under the LMK for us and under Master for the terminal.
type WorkKey struct {
	Master    keys.Wrapped   // the terminal's master key (TMK)
	Usage     keys.Usage     // PINKey, MACKey or TrackKey
	Algorithm keys.Algorithm // DES gives 8 bytes, TDES and SM4 16
}

// MadeKey is the answer to WorkKey. UnderMaster is plain ECB under the terminal master key (scheme X, not U): 8 or 16 bytes, as
// field 62 of the 0810 carries it. Key.KCV has 8 bytes (SM4: 16 hex digits of the same) so that 4 can be sent.
type MadeKey struct {
	Key         keys.Wrapped
	UnderMaster []byte
}

// WorkKeyMaker makes working keys (P6). It may be repeated: nothing stays in the device.
type WorkKeyMaker interface {
	MakeWorkKey(ctx context.Context, req WorkKey) (MadeKey, error)
}

// PINFormat is the layout of a PIN block, named as the host command codes name them (facts/hsm.md §1.4).
type PINFormat string

// The PIN block formats that flows use so far.
const (
	PINISO0    PINFormat = "01"
	PINSM4Wide PINFormat = "sm4-wide" // 16 bytes, facts/unionpay.md §6 form B
	// PINSM4Padded is a block of format 0 and eight zero bytes, facts/unionpay.md §6 form A.
	PINSM4Padded PINFormat = "sm4-8+8"
)

// PINTranslation asks to move a PIN block from one key to another (P9). PAN is the same on both sides by construction.
type PINTranslation struct {
	From, To             keys.Wrapped
	FromFormat, ToFormat PINFormat
	Block                secret.PINBlock
	PAN                  secret.PAN
}

// PINTranslator translates PIN blocks; a PIN problem is an *Error for which IsPIN is true.
type PINTranslator interface {
	TranslatePIN(ctx context.Context, req PINTranslation) (secret.PINBlock, error)
}

// MACAlgorithm is the ISO/IEC 9797-1 algorithm of a MAC command.
type MACAlgorithm uint8

// MAC algorithms. A double-length key with MACAlg1 means triple DES on every block.
const (
	MACAlg1   MACAlgorithm = 1 // CBC-MAC; with single DES also known as X9.9
	MACAlg3   MACAlgorithm = 3 // retail MAC, X9.19
	MACCMAC   MACAlgorithm = 6
	MACSM4CBC MACAlgorithm = 41 // SM4-CBC-MAC with 16-byte blocks
)

// MACInput is what a MAC is computed over; Data is padded with zeros to a whole block by the device (method 1).
type MACInput struct {
	Key       keys.Wrapped
	Algorithm MACAlgorithm
	Data      []byte
}

// MACer computes and verifies MACs. MAC returns the whole block (8 or 16 bytes); callers cut it. VerifyMAC compares the leading
// len(expect) bytes (4 or 8; SM4 up to 16) inside the device where it can, and reports a mismatch as false, not as an error.
type MACer interface {
	MAC(ctx context.Context, in MACInput) ([]byte, error)
	VerifyMAC(ctx context.Context, in MACInput, expect []byte) (bool, error)
}

// DataDecrypter deciphers whole ECB blocks of track data under a TrackKey; the device refuses other key types.
type DataDecrypter interface {
	DecryptTrack(ctx context.Context, key keys.Wrapped, cipher []byte) (secret.Track, error)
}

// Diversification asks for a child key: one level for each 8-byte factor (PBOC form, facts/psam.md §1.1 and §1.2).
type Diversification struct {
	Root    keys.Wrapped
	Usage   keys.Usage // TerminalMaster or CardControl
	Factors [][8]byte
}

// Diversifier derives child keys; only the issuing group of the HSM allows it (P1).
type Diversifier interface {
	Diversify(ctx context.Context, req Diversification) (keys.Wrapped, error)
}

// CardExport asks for a key under a card's control key with a clear header in front, 80-padded, and a MAC over
// MACHeader || cipher with the given IV: the data of the card command WRITE KEY (facts/psam.md §3.2).
type CardExport struct {
	Control   keys.Wrapped
	Key       keys.Wrapped
	Header    []byte // LD, usage, version, algorithm: 4 bytes
	MACHeader []byte // CLA INS P1 P2 Lc: 5 bytes
	IV        []byte // the card's challenge, zero-filled to a block
}

// CardScript is the answer to CardExport.
type CardScript struct {
	Cipher []byte
	MAC    []byte // 4 bytes
}

// CardExporter exports keys for cards; only the issuing group of the HSM allows it (P1).
type CardExporter interface {
	ExportForCard(ctx context.Context, req CardExport) (CardScript, error)
}

// Checker computes check values of stored keys (8 bytes).
type Checker interface {
	CheckValue(ctx context.Context, key keys.Wrapped) (keys.KCV, error)
}

// Randomizer returns n random bytes from the device's generator (1 to 256).
type Randomizer interface {
	Random(ctx context.Context, n int) ([]byte, error)
}

// Diagnosis is what a device says of itself.
type Diagnosis struct {
	LMKCheck keys.KCV // 16 hex digits; equal for all devices of one LMK domain
	Firmware string
	Serial   string // empty where the device does not say
}

// Diagnoser asks a device for its diagnosis; it is also the liveness probe.
type Diagnoser interface {
	Diagnose(ctx context.Context) (Diagnosis, error)
}
