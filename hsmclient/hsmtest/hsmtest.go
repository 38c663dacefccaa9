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
	// Can is what the driver claims. Cases of other capabilities ask for refusals. Zero: what Client has, with no such question.
	Can command.Capability
	// Domain is the LMK domain that the client serves.
	Domain string
	// Wrap is the key ceremony of the devices: it puts a clear test key under their LMK. The suite gives DES keys odd parity
	// where devices want it.
	Wrap func(t testing.TB, usage keys.Usage, algorithm keys.Algorithm, clear secret.Key) keys.Wrapped
	// WrapMAC is Wrap where a key names its MAC algorithm; nil: Wrap.
	WrapMAC func(t testing.TB, usage keys.Usage, algorithm keys.Algorithm, mac command.MACAlgorithm, clear secret.Key) keys.Wrapped
	// WrapOld puts a key under the old LMK, with its domain, for CanTranslateLMK.
	WrapOld func(t testing.TB, usage keys.Usage, algorithm keys.Algorithm, clear secret.Key) keys.Wrapped
}

// caseTimeout bounds one case, so that a client that hangs fails the suite instead of stopping it.
const caseTimeout = 20 * time.Second

// payments is what Client has.
const payments = command.CanMakeWorkKey | command.CanTranslatePIN | command.CanMAC | command.CanDecryptTrack | command.CanDiversify |
	command.CanExportForCard | command.CanCheck | command.CanRandom

// Run runs the whole suite. newFixture is called once; it cleans up by t.Cleanup.
func Run(t *testing.T, newFixture func(t *testing.T) Fixture) {
	t.Helper()
	f := newFixture(t)
	can := f.Can
	if can == 0 {
		can = payments
	}
	for _, c := range []struct {
		name string
		need command.Capability
		run  func(*testing.T, context.Context, Fixture)
	}{
		{"MakeWorkKey", command.CanMakeWorkKey | command.CanCheck, makeWorkKey},
		{"TranslatePIN", command.CanTranslatePIN | command.CanMakeWorkKey, translatePIN},
		{"TranslatePIN/zone", command.CanTranslatePIN, translateZonePIN},
		{"TranslatePIN/refusals", command.CanTranslatePIN | command.CanMakeWorkKey, refusePIN},
		{"MAC", command.CanMAC, mac},
		{"MAC/UnionPay", command.CanMAC, macUnionPay},
		{"MAC/refusals", command.CanMAC | command.CanMakeWorkKey, refuseMAC},
		{"DecryptTrack", command.CanDecryptTrack | command.CanMakeWorkKey, decryptTrack},
		{"Diversify", command.CanDiversify | command.CanCheck, diversify},
		{"Diversify/vectors", command.CanDiversify, diversifyVectors},
		{"ExportForCard", command.CanExportForCard, exportForCard},
		{"CheckValue", command.CanCheck, checkValue},
		{"Random", command.CanRandom, random},
		{"ExchangeZone", command.CanExchangeZone, exchangeZone},
		{"TranslateLMK", command.CanTranslateLMK | command.CanCheck, translateLMK},
		{"StoreKey", command.CanStoreKey | command.CanMAC | command.CanCheck, keepKey},
		{"Diagnose", 0, diagnose},
		{"OtherDomain", command.CanMAC | command.CanCheck, otherDomain},
		{"EndedContext", command.CanRandom, endedContext},
		{"Lacks", 0, lacks},
	} {
		if !can.Has(c.need) {
			continue // lacks asks for the refusals
		}
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), caseTimeout)
			defer cancel()
			c.run(t, ctx, f)
		})
	}
}

// lacks: what the driver does not claim is refused as a missing licence, so that another member may be asked.
func lacks(t *testing.T, ctx context.Context, f Fixture) {
	if f.Can == 0 {
		return
	}
	key := func(usage keys.Usage) keys.Wrapped { return f.wrap(t, usage, keys.TDES, zoneKey) }
	pan := panOf(t, cardNumber)
	for need, ask := range map[command.Capability]func() error{
		command.CanMakeWorkKey: func() error {
			_, err := f.Client.MakeWorkKey(ctx, command.WorkKey{Master: key(keys.TerminalMaster), Usage: keys.MACKey, Algorithm: keys.TDES})
			return err
		},
		command.CanTranslatePIN: func() error {
			_, err := f.Client.TranslatePIN(ctx, command.PINTranslation{From: key(keys.PINKey), To: key(keys.ZonePIN), FromFormat: command.PINISO0,
				ToFormat: command.PINISO0, Block: secret.New(make([]byte, 8)), PAN: pan})
			return err
		},
		command.CanDecryptTrack: func() error { _, err := f.Client.DecryptTrack(ctx, key(keys.TrackKey), make([]byte, 8)); return err },
		command.CanDiversify: func() error {
			_, err := f.Client.Diversify(ctx, command.Diversification{Root: key(keys.Root), Usage: keys.TerminalMaster, Factors: make([][8]byte, 1)})
			return err
		},
		command.CanExportForCard: func() error {
			_, err := f.Client.ExportForCard(ctx, command.CardExport{Control: key(keys.CardControl), Key: key(keys.TerminalMaster), Header: make([]byte, 4), IV: make([]byte, 8)})
			return err
		},
		command.CanStoreKey: func() error {
			_, err := offered[command.KeyStorer](t, f).StoreKey(ctx, command.NewKey{Label: newLabel("no"), Usage: keys.MACKey, Algorithm: keys.TDES})
			return err
		},
		command.CanExchangeZone: func() error {
			_, err := offered[command.ZoneExchanger](t, f).ExportUnderZMK(ctx, key(keys.ZoneMaster), key(keys.ZonePIN))
			return err
		},
		command.CanTranslateLMK: func() error {
			old := key(keys.ZonePIN)
			old.Domain = "an old domain"
			_, err := offered[command.LMKTranslator](t, f).TranslateLMK(ctx, old, f.Domain)
			return err
		},
	} {
		if !f.Can.Has(need) {
			wantClass(t, need.String(), ask(), command.NoLicence)
		}
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

// wrapMAC is wrap for a key of one MAC algorithm.
func (f Fixture) wrapMAC(t *testing.T, usage keys.Usage, algorithm keys.Algorithm, mac command.MACAlgorithm, clearHex string) keys.Wrapped {
	t.Helper()
	if f.WrapMAC == nil {
		return f.wrap(t, usage, algorithm, clearHex)
	}
	clear := unhex(t, clearHex)
	if algorithm != keys.SM4 {
		clear = oddParity(clear)
	}
	return f.WrapMAC(t, usage, algorithm, mac, secret.New(clear))
}

// wantClass fails unless err is a *command.Error of the class.
func wantClass(t *testing.T, what string, err error, class command.Class) {
	t.Helper()
	var e *command.Error
	if !errors.As(err, &e) || e.Class != class {
		t.Errorf("%s: got %v, want an error of class %s", what, err, class)
	}
}
