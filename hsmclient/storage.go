package hsmclient

import (
	"context"
	"errors"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
)

var (
	_ command.KeyStorer     = (*Cluster)(nil)
	_ command.DataKeyMaker  = (*Cluster)(nil)
	_ command.ZoneExchanger = (*Cluster)(nil)
	_ command.LMKTranslator = (*Cluster)(nil)
)

// StoreKey implements command.KeyStorer. It is never sent twice. Version of the answer is left 0 for the caller to set.
func (c *Cluster) StoreKey(ctx context.Context, req command.NewKey) (keys.Wrapped, error) {
	if req.Domain == "" {
		req.Domain = c.cfg.DefaultDomain
	}
	key, err := within(ctx, c, req.Domain, opStoreKey, req, driver.KeyStorer.StoreKey)
	if err == nil {
		key.Domain = req.Domain // a device does not know its domain
	}
	return key, err
}

// MakeDataKey implements command.DataKeyMaker.
func (c *Cluster) MakeDataKey(ctx context.Context, kek keys.Wrapped) (command.DataKey, error) {
	return routed(ctx, c, opMakeDataKey, kek, driver.DataKeyMaker.MakeDataKey, kek)
}

// OpenDataKey implements command.DataKeyMaker.
func (c *Cluster) OpenDataKey(ctx context.Context, kek keys.Wrapped, wrapped []byte) (secret.Key, error) {
	return routed(ctx, c, opOpenDataKey, sealed{kek, wrapped}, func(d driver.DataKeyMaker, ctx context.Context, on driver.Conversation, s sealed) (secret.Key, error) {
		return d.OpenDataKey(ctx, on, s.key, s.data)
	}, kek)
}

type zoneTransfer struct {
	zmk, key keys.Wrapped
	zoneKey  command.ZoneKey
}

// ExportUnderZMK implements command.ZoneExchanger.
func (c *Cluster) ExportUnderZMK(ctx context.Context, zmk, key keys.Wrapped) (command.ZoneKey, error) {
	return routed(ctx, c, opExportUnderZMK, zoneTransfer{zmk: zmk, key: key},
		func(d driver.ZoneExchanger, ctx context.Context, on driver.Conversation, z zoneTransfer) (command.ZoneKey, error) {
			return d.ExportUnderZMK(ctx, on, z.zmk, z.key)
		}, zmk, key)
}

// ImportUnderZMK implements command.ZoneExchanger, in the domain of zmk.
func (c *Cluster) ImportUnderZMK(ctx context.Context, zmk keys.Wrapped, key command.ZoneKey) (keys.Wrapped, error) {
	return routed(ctx, c, opImportUnderZMK, zoneTransfer{zmk: zmk, zoneKey: key},
		func(d driver.ZoneExchanger, ctx context.Context, on driver.Conversation, z zoneTransfer) (keys.Wrapped, error) {
			return d.ImportUnderZMK(ctx, on, z.zmk, z.zoneKey)
		}, zmk)
}

type translation struct {
	key keys.Wrapped
	to  string
}

// TranslateLMK implements command.LMKTranslator, in the domain to.
func (c *Cluster) TranslateLMK(ctx context.Context, key keys.Wrapped, to string) (keys.Wrapped, error) {
	if key.IsZero() {
		return keys.Wrapped{}, c.refuse(ctx, opTranslateLMK, errors.New("a key is missing"))
	}
	return within(ctx, c, to, opTranslateLMK, translation{key, to},
		func(d driver.LMKTranslator, ctx context.Context, on driver.Conversation, t translation) (keys.Wrapped, error) {
			return d.TranslateLMK(ctx, on, t.key, t.to)
		})
}
