// Package driver says what a device driver is: how a channel to a device is opened, and for each capability of package command the
// conversation of one or more host commands on it. The cluster (package hsmclient) owns balancing, probing, repeats and
// deadlines; a driver owns the bytes of the commands and the meaning of the answers. Drivers keep no state (docs/hsm-driver.md).
package driver

import (
	"context"
	"errors"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
)

// ErrMalformed marks an answer that is not the answer to its request: wrong response code, length, alphabet, or trailing
// bytes. The client closes the channel that it came on, because nothing that follows there can be trusted. Drivers return
// it inside a *command.Error of class MemberFault.
var ErrMalformed = errors.New("the answer does not have the layout of the command")

// Conversation is one caller's use of one channel of one device. All commands of a conversation go to the same device,
// so that a command of two round trips never mixes the results of two.
type Conversation interface {
	// Exchange sends a host command and waits for its answer. Both are without frame and label. The answer belongs to the
	// caller. Its errors are *command.Error already; drivers pass them on as they are.
	Exchange(ctx context.Context, request []byte) ([]byte, error)
	// Do runs work on the driver's own channel, for devices that are asked by function calls instead of bytes. It is journalled as one
	// exchange with the code; sent and received are lengths for the journal, result is a code for it.
	Do(ctx context.Context, code string, sent int, work func(ctx context.Context, on Channel) (received int, result string, err error)) error
}

// Driver is the least that a driver is: it can tell whether a device is alive and which LMK it has. The other capabilities
// are separate interfaces; the client refuses one that the driver lacks with class NoLicence.
type Driver interface {
	// Name is the family, as the configuration writes it.
	Name() string
	// Diagnose is command.Diagnoser on one device.
	Diagnose(ctx context.Context, on Conversation) (command.Diagnosis, error)
}

// WorkKeyMaker is command.WorkKeyMaker on one device.
type WorkKeyMaker interface {
	MakeWorkKey(ctx context.Context, on Conversation, req command.WorkKey) (command.MadeKey, error)
}

// PINTranslator is command.PINTranslator on one device.
type PINTranslator interface {
	TranslatePIN(ctx context.Context, on Conversation, req command.PINTranslation) (secret.PINBlock, error)
}

// MACer is command.MACer on one device.
type MACer interface {
	MAC(ctx context.Context, on Conversation, in command.MACInput) ([]byte, error)
	VerifyMAC(ctx context.Context, on Conversation, in command.MACInput, expect []byte) (bool, error)
}

// DataDecrypter is command.DataDecrypter on one device.
type DataDecrypter interface {
	DecryptTrack(ctx context.Context, on Conversation, key keys.Wrapped, cipher []byte) (secret.Track, error)
}

// Diversifier is command.Diversifier on one device.
type Diversifier interface {
	Diversify(ctx context.Context, on Conversation, req command.Diversification) (keys.Wrapped, error)
}

// CardExporter is command.CardExporter on one device.
type CardExporter interface {
	ExportForCard(ctx context.Context, on Conversation, req command.CardExport) (command.CardScript, error)
}

// Checker is command.Checker on one device.
type Checker interface {
	CheckValue(ctx context.Context, on Conversation, key keys.Wrapped) (keys.KCV, error)
}

// Randomizer is command.Randomizer on one device.
type Randomizer interface {
	Random(ctx context.Context, on Conversation, n int) ([]byte, error)
}
