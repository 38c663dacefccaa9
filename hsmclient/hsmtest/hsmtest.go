// Package hsmtest is the conformance suite of HSM access: a driver, a cluster or a simulator is done when Run passes. Every
// result is checked against an independent calculation on clear test keys, every capability also by what it must refuse.
// Test code only: no production package imports it.
package hsmtest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
)

// Client is everything that callers can ask for.
type Client interface {
	command.WorkKeyMaker
	command.PINTranslator
	command.MACer
	command.DataDecrypter
	command.Diversifier
	command.CardExporter
	command.Checker
	command.Randomizer
	command.Diagnoser
}

// Fixture is a client over devices that allow all commands.
type Fixture struct {
	Client Client
	// Domain is the LMK domain that the client serves.
	Domain string
	// Wrap is the key ceremony of the devices: it puts a clear test key under their LMK. The suite gives DES keys odd parity
	// where devices want it.
	Wrap func(t testing.TB, usage keys.Usage, algorithm keys.Algorithm, clear secret.Key) keys.Wrapped
}

// caseTimeout bounds one case, so that a client that hangs fails the suite instead of stopping it.
const caseTimeout = 20 * time.Second

// Run runs the whole suite. newFixture is called once; it cleans up by t.Cleanup.
func Run(t *testing.T, newFixture func(t *testing.T) Fixture) {
	t.Helper()
	f := newFixture(t)
	for _, c := range []struct {
		name string
		run  func(*testing.T, context.Context, Fixture)
	}{
		{"MakeWorkKey", makeWorkKey},
		{"TranslatePIN", translatePIN},
		{"TranslatePIN/zone", translateZonePIN},
		{"TranslatePIN/refusals", refusePIN},
		{"MAC", mac},
		{"MAC/UnionPay", macUnionPay},
		{"MAC/refusals", refuseMAC},
		{"DecryptTrack", decryptTrack},
		{"Diversify", diversify},
		{"Diversify/vectors", diversifyVectors},
		{"ExportForCard", exportForCard},
		{"CheckValue", checkValue},
		{"Random", random},
		{"Diagnose", diagnose},
		{"OtherDomain", otherDomain},
		{"EndedContext", endedContext},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), caseTimeout)
			defer cancel()
			c.run(t, ctx, f)
		})
	}
}

// wrap gives DES keys odd parity, except those types that hold derived keys as they came out of the cipher.
func (f Fixture) wrap(t *testing.T, usage keys.Usage, algorithm keys.Algorithm, clearHex string) keys.Wrapped {
	t.Helper()
	clear := unhex(t, clearHex)
	raw := usage == keys.Root || usage == keys.TerminalMaster || usage == keys.CardControl
	if !raw && (algorithm == keys.DES || algorithm == keys.TDES) {
		clear = oddParity(clear)
	}
	return f.Wrap(t, usage, algorithm, secret.New(clear))
}

// wantClass fails unless err is a *command.Error of the class.
func wantClass(t *testing.T, what string, err error, class command.Class) {
	t.Helper()
	var e *command.Error
	if !errors.As(err, &e) || e.Class != class {
		t.Errorf("%s: got %v, want an error of class %s", what, err, class)
	}
}
