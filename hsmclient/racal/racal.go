package racal

import (
	"context"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/hsmclient/wire"
	"github.com/keyward/keyward/keys"
)

// Driver speaks the host commands; Make makes it. It holds no state and may serve any number of devices at the same time.
type Driver struct {
	frame     wire.Config
	set       set
	form      form
	zone      zoneForm
	oldDomain string
	keyForm   string
}

// variantTypes are the key types under a variant LMK, also when the present one takes key blocks.
func (d *Driver) variantTypes() map[keys.Usage]string { return d.set.types }

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
	can := command.CanMakeWorkKey | command.CanTranslatePIN | command.CanMAC | command.CanDecryptTrack | command.CanDiversify |
		command.CanExportForCard | command.CanCheck | command.CanRandom | command.CanExchangeZone
	if d.set.stores {
		can |= command.CanStoreKey
	}
	if d.oldDomain != "" {
		can |= command.CanTranslateLMK
	}
	return can
}

var (
	_ driver.Maker         = Make
	_ driver.Driver        = (*Driver)(nil)
	_ driver.Opener        = (*Driver)(nil)
	_ driver.Capable       = (*Driver)(nil)
	_ driver.Prober        = (*Driver)(nil)
	_ driver.Resulter      = (*Driver)(nil)
	_ driver.KeyDoubter    = (*Driver)(nil)
	_ driver.KeyFormer     = (*Driver)(nil)
	_ driver.AddrChecker   = (*Driver)(nil)
	_ driver.WorkKeyMaker  = (*Driver)(nil)
	_ driver.PINTranslator = (*Driver)(nil)
	_ driver.MACer         = (*Driver)(nil)
	_ driver.DataDecrypter = (*Driver)(nil)
	_ driver.Diversifier   = (*Driver)(nil)
	_ driver.CardExporter  = (*Driver)(nil)
	_ driver.Checker       = (*Driver)(nil)
	_ driver.Randomizer    = (*Driver)(nil)
	_ driver.KeyStorer     = (*Driver)(nil)
	_ driver.ZoneExchanger = (*Driver)(nil)
	_ driver.LMKTranslator = (*Driver)(nil)
)
