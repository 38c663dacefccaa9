package hsmclient

import (
	"context"
	"errors"
	"fmt"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
)

var (
	_ command.WorkKeyMaker  = (*Cluster)(nil)
	_ command.PINTranslator = (*Cluster)(nil)
	_ command.MACer         = (*Cluster)(nil)
	_ command.DataDecrypter = (*Cluster)(nil)
	_ command.Diversifier   = (*Cluster)(nil)
	_ command.CardExporter  = (*Cluster)(nil)
	_ command.Checker       = (*Cluster)(nil)
	_ command.Randomizer    = (*Cluster)(nil)
	_ command.Diagnoser     = (*Cluster)(nil)
)

// MakeWorkKey implements command.WorkKeyMaker. Key.Version of the answer is left 0 for the caller to set.
func (c *Cluster) MakeWorkKey(ctx context.Context, req command.WorkKey) (command.MadeKey, error) {
	return routed(ctx, c, opMakeWorkKey, req, driver.WorkKeyMaker.MakeWorkKey, req.Master)
}

// TranslatePIN implements command.PINTranslator.
func (c *Cluster) TranslatePIN(ctx context.Context, req command.PINTranslation) (secret.PINBlock, error) {
	return routed(ctx, c, opTranslatePIN, req, driver.PINTranslator.TranslatePIN, req.From, req.To)
}

// MAC implements command.MACer.
func (c *Cluster) MAC(ctx context.Context, in command.MACInput) ([]byte, error) {
	return routed(ctx, c, opMAC, in, driver.MACer.MAC, in.Key)
}

type verification struct {
	in     command.MACInput
	expect []byte
}

// VerifyMAC implements command.MACer.
func (c *Cluster) VerifyMAC(ctx context.Context, in command.MACInput, expect []byte) (bool, error) {
	return routed(ctx, c, opVerifyMAC, verification{in, expect}, func(d driver.MACer, ctx context.Context, on driver.Conversation, v verification) (bool, error) {
		return d.VerifyMAC(ctx, on, v.in, v.expect)
	}, in.Key)
}

// sealed is data that belongs to a key.
type sealed struct {
	key  keys.Wrapped
	data []byte
}

// DecryptTrack implements command.DataDecrypter.
func (c *Cluster) DecryptTrack(ctx context.Context, key keys.Wrapped, cipher []byte) (secret.Track, error) {
	return routed(ctx, c, opDecryptTrack, sealed{key, cipher}, func(d driver.DataDecrypter, ctx context.Context, on driver.Conversation, s sealed) (secret.Track, error) {
		return d.DecryptTrack(ctx, on, s.key, s.data)
	}, key)
}

// Diversify implements command.Diversifier. Version of the answer is left 0 for the caller to set.
func (c *Cluster) Diversify(ctx context.Context, req command.Diversification) (keys.Wrapped, error) {
	return routed(ctx, c, opDiversify, req, driver.Diversifier.Diversify, req.Root)
}

// ExportForCard implements command.CardExporter.
func (c *Cluster) ExportForCard(ctx context.Context, req command.CardExport) (command.CardScript, error) {
	return routed(ctx, c, opExportForCard, req, driver.CardExporter.ExportForCard, req.Control, req.Key)
}

// CheckValue implements command.Checker.
func (c *Cluster) CheckValue(ctx context.Context, key keys.Wrapped) (keys.KCV, error) {
	return routed(ctx, c, opCheckValue, key, driver.Checker.CheckValue, key)
}

// Random implements command.Randomizer, in the default domain.
func (c *Cluster) Random(ctx context.Context, n int) ([]byte, error) {
	return routed(ctx, c, opRandom, n, driver.Randomizer.Random)
}

// Diagnose implements command.Diagnoser on one of the members of the default domain.
func (c *Cluster) Diagnose(ctx context.Context) (command.Diagnosis, error) {
	return routed(ctx, c, opDiagnose, struct{}{}, func(d driver.Driver, ctx context.Context, on driver.Conversation, _ struct{}) (command.Diagnosis, error) {
		return d.Diagnose(ctx, on)
	})
}

// routed finds the domain of the keys and runs the command there. All keys of a request must be of one domain: under another LMK they
// would only give nonsense, and the caller has mixed up two groups.
func routed[D, Q, R any](ctx context.Context, c *Cluster, op operation, req Q, call func(D, context.Context, driver.Conversation, Q) (R, error), used ...keys.Wrapped) (R, error) {
	name := c.cfg.DefaultDomain
	for i := range used {
		switch key := &used[i]; {
		case key.IsZero():
			var none R
			return none, c.refuse(ctx, op, errors.New("a key is missing"))
		case i == 0:
			name = key.Domain
		case key.Domain != name:
			var none R
			return none, c.refuse(ctx, op, fmt.Errorf("key %s belongs to LMK domain %q, but another key of the request to %q", *key, key.Domain, name))
		}
	}
	return within(ctx, c, name, op, req, call)
}

// within runs a command in a domain.
func within[D, Q, R any](ctx context.Context, c *Cluster, domain string, op operation, req Q, call func(D, context.Context, driver.Conversation, Q) (R, error)) (R, error) {
	p := c.pools[domain]
	if p == nil {
		var none R
		return none, c.refuse(ctx, op, fmt.Errorf("there are no members for LMK domain %q; known is: %s", domain, c.domainNames()))
	}
	return run(ctx, c, p, op, req, call)
}

// refuse counts and makes the error of a command that no member was asked for.
func (c *Cluster) refuse(ctx context.Context, op operation, cause error) error {
	err := &command.Error{Class: command.CallerFault, Command: op.String(), Err: cause}
	c.count(ctx, op, err)
	return err
}
