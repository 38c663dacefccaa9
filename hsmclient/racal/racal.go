package racal

import "github.com/keyward/keyward/hsmclient/driver"

// Options are the differences between devices of the family.
type Options struct {
	// LegacyTypes says that the device has no separate types for terminal master and terminal PIN keys: both are 002
	// instead of 80D and 70D (facts/hsm.md §2.3). Off for every device that can separate them.
	LegacyTypes bool
}

// Driver speaks the host commands. It holds no state and may serve any number of devices at the same time.
type Driver struct {
	options Options
}

// New returns a driver.
func New(options Options) *Driver { return &Driver{options: options} }

// Name implements driver.Driver.
func (*Driver) Name() string { return "racal" }

var (
	_ driver.Driver        = (*Driver)(nil)
	_ driver.WorkKeyMaker  = (*Driver)(nil)
	_ driver.PINTranslator = (*Driver)(nil)
	_ driver.MACer         = (*Driver)(nil)
	_ driver.DataDecrypter = (*Driver)(nil)
	_ driver.Diversifier   = (*Driver)(nil)
	_ driver.CardExporter  = (*Driver)(nil)
	_ driver.Checker       = (*Driver)(nil)
	_ driver.Randomizer    = (*Driver)(nil)
)
