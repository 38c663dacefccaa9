package hsmclient

import (
	"context"
	"fmt"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
)

var (
	_ command.WorkKeyMaker  = (*Client)(nil)
	_ command.PINTranslator = (*Client)(nil)
	_ command.MACer         = (*Client)(nil)
	_ command.DataDecrypter = (*Client)(nil)
	_ command.Diversifier   = (*Client)(nil)
	_ command.CardExporter  = (*Client)(nil)
	_ command.Checker       = (*Client)(nil)
	_ command.Randomizer    = (*Client)(nil)
	_ command.Diagnoser     = (*Client)(nil)
)

// MakeWorkKey implements command.WorkKeyMaker. Key.Version of the answer is left 0 for the caller to set.
func (c *Client) MakeWorkKey(ctx context.Context, req command.WorkKey) (command.MadeKey, error) {
	d, err := capable[driver.WorkKeyMaker](c, opMakeWorkKey, req.Master)
	if err != nil {
		return command.MadeKey{}, err
	}
	return run(ctx, c, opMakeWorkKey, func(ctx context.Context, on driver.Conversation) (command.MadeKey, error) {
		return d.MakeWorkKey(ctx, on, req)
	})
}

// TranslatePIN implements command.PINTranslator.
func (c *Client) TranslatePIN(ctx context.Context, req command.PINTranslation) (secret.PINBlock, error) {
	d, err := capable[driver.PINTranslator](c, opTranslatePIN, req.From, req.To)
	if err != nil {
		return secret.PINBlock{}, err
	}
	return run(ctx, c, opTranslatePIN, func(ctx context.Context, on driver.Conversation) (secret.PINBlock, error) {
		return d.TranslatePIN(ctx, on, req)
	})
}

// MAC implements command.MACer.
func (c *Client) MAC(ctx context.Context, in command.MACInput) ([]byte, error) {
	d, err := capable[driver.MACer](c, opMAC, in.Key)
	if err != nil {
		return nil, err
	}
	return run(ctx, c, opMAC, func(ctx context.Context, on driver.Conversation) ([]byte, error) {
		return d.MAC(ctx, on, in)
	})
}

// VerifyMAC implements command.MACer.
func (c *Client) VerifyMAC(ctx context.Context, in command.MACInput, expect []byte) (bool, error) {
	d, err := capable[driver.MACer](c, opVerifyMAC, in.Key)
	if err != nil {
		return false, err
	}
	return run(ctx, c, opVerifyMAC, func(ctx context.Context, on driver.Conversation) (bool, error) {
		return d.VerifyMAC(ctx, on, in, expect)
	})
}

// DecryptTrack implements command.DataDecrypter.
func (c *Client) DecryptTrack(ctx context.Context, key keys.Wrapped, cipher []byte) (secret.Track, error) {
	d, err := capable[driver.DataDecrypter](c, opDecryptTrack, key)
	if err != nil {
		return secret.Track{}, err
	}
	return run(ctx, c, opDecryptTrack, func(ctx context.Context, on driver.Conversation) (secret.Track, error) {
		return d.DecryptTrack(ctx, on, key, cipher)
	})
}

// Diversify implements command.Diversifier. Version of the answer is left 0 for the caller to set.
func (c *Client) Diversify(ctx context.Context, req command.Diversification) (keys.Wrapped, error) {
	d, err := capable[driver.Diversifier](c, opDiversify, req.Root)
	if err != nil {
		return keys.Wrapped{}, err
	}
	return run(ctx, c, opDiversify, func(ctx context.Context, on driver.Conversation) (keys.Wrapped, error) {
		return d.Diversify(ctx, on, req)
	})
}

// ExportForCard implements command.CardExporter.
func (c *Client) ExportForCard(ctx context.Context, req command.CardExport) (command.CardScript, error) {
	d, err := capable[driver.CardExporter](c, opExportForCard, req.Control, req.Key)
	if err != nil {
		return command.CardScript{}, err
	}
	return run(ctx, c, opExportForCard, func(ctx context.Context, on driver.Conversation) (command.CardScript, error) {
		return d.ExportForCard(ctx, on, req)
	})
}

// CheckValue implements command.Checker.
func (c *Client) CheckValue(ctx context.Context, key keys.Wrapped) (keys.KCV, error) {
	d, err := capable[driver.Checker](c, opCheckValue, key)
	if err != nil {
		return "", err
	}
	return run(ctx, c, opCheckValue, func(ctx context.Context, on driver.Conversation) (keys.KCV, error) {
		return d.CheckValue(ctx, on, key)
	})
}

// Random implements command.Randomizer.
func (c *Client) Random(ctx context.Context, n int) ([]byte, error) {
	d, err := capable[driver.Randomizer](c, opRandom)
	if err != nil {
		return nil, err
	}
	return run(ctx, c, opRandom, func(ctx context.Context, on driver.Conversation) ([]byte, error) {
		return d.Random(ctx, on, n)
	})
}

// Diagnose implements command.Diagnoser on one of the admitted members.
func (c *Client) Diagnose(ctx context.Context) (command.Diagnosis, error) {
	return run(ctx, c, opDiagnose, c.cfg.Driver.Diagnose)
}

// capable finds the capability in the driver and checks that the keys belong to the LMK domain: under another LMK they would
// only give nonsense, and the caller has mixed up two groups.
func capable[D any](c *Client, op operation, used ...keys.Wrapped) (D, error) {
	d, ok := c.cfg.Driver.(D)
	if !ok {
		return d, c.refuse(op, command.NoLicence, fmt.Errorf("driver %s cannot do this", c.cfg.Driver.Name()))
	}
	for _, key := range used {
		if key.IsZero() {
			return d, c.refuse(op, command.CallerFault, fmt.Errorf("a key is missing"))
		}
		if key.Domain != c.cfg.Domain {
			return d, c.refuse(op, command.CallerFault, fmt.Errorf("key %s belongs to LMK domain %q, but the members hold that of domain %q", key, key.Domain, c.cfg.Domain))
		}
	}
	return d, nil
}

// refuse counts and makes the error of a command that no member was asked for.
func (c *Client) refuse(op operation, class command.Class, cause error) error {
	err := &command.Error{Class: class, Command: op.String(), Err: cause}
	c.metrics.observe(op, err, 0)
	return err
}
