package racal

import (
	"context"
	"fmt"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/hsmclient/wire"
)

// Options are the differences between devices of the family.
type Options struct {
	// LegacyTypes says that the device has no separate types for terminal master and terminal PIN keys: both are 002
	// instead of 80D and 70D (facts/hsm.md §2.3). Off for every device that can separate them.
	LegacyTypes bool
}

// Driver speaks the host commands. It holds no state and may serve any number of devices at the same time.
type Driver struct {
	options   Options
	frame     wire.Config
	keyBlock  bool
	oldDomain string
}

// New returns a driver with all other settings at their normal values; Make takes settings.
func New(options Options) *Driver {
	d, err := Make(nil)
	racal, ok := d.(*Driver)
	if err != nil || !ok {
		panic(fmt.Sprintf("racal driver: its own normal settings are refused: %v", err))
	}
	racal.options = options
	return racal
}

// Name implements driver.Driver.
func (*Driver) Name() string { return "racal" }

// Open implements driver.Opener.
func (d *Driver) Open(ctx context.Context, to driver.Target) (driver.Channel, error) {
	c, err := wire.Open(ctx, d.frame, to)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Capabilities implements driver.Capable.
func (d *Driver) Capabilities() command.Capability {
	return command.CanMakeWorkKey | command.CanTranslatePIN | command.CanMAC | command.CanDecryptTrack | command.CanDiversify |
		command.CanExportForCard | command.CanCheck | command.CanRandom
}

var (
	_ driver.Maker         = Make
	_ driver.Driver        = (*Driver)(nil)
	_ driver.Opener        = (*Driver)(nil)
	_ driver.Capable       = (*Driver)(nil)
	_ driver.Prober        = (*Driver)(nil)
	_ driver.Resulter      = (*Driver)(nil)
	_ driver.WorkKeyMaker  = (*Driver)(nil)
	_ driver.PINTranslator = (*Driver)(nil)
	_ driver.MACer         = (*Driver)(nil)
	_ driver.DataDecrypter = (*Driver)(nil)
	_ driver.Diversifier   = (*Driver)(nil)
	_ driver.CardExporter  = (*Driver)(nil)
	_ driver.Checker       = (*Driver)(nil)
	_ driver.Randomizer    = (*Driver)(nil)
)
