//go:build cgo

package pkcs11

import (
	"context"
	"errors"
	"fmt"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
)

// Name is the family, as the configuration writes it.
const Name = "pkcs11"

// Names under which operations stand in errors and in the journal. An operation that PKCS#11 splits (C_SignInit, C_Sign) has the name
// of the call that does the work.
const (
	codeTokenInfo = "C_GetTokenInfo" //nolint:gosec // G101: the name of a function, no credential
	codeFind      = "C_FindObjects"
	codeSign      = "C_Sign"
	codeVerify    = "C_Verify"
	codeRandom    = "C_GenerateRandom"
	codeGenerate  = "C_GenerateKey"
	codeWrap      = "C_WrapKey"
	codeUnwrap    = "C_UnwrapKey"
	codeAttribute = "C_GetAttributeValue"
	codeDestroy   = "C_DestroyObject"
)

// Driver speaks to tokens. It keeps no state: sessions are channels, and the table of loaded libraries belongs to the process.
type Driver struct {
	settings settings
}

var (
	_ driver.Driver       = (*Driver)(nil)
	_ driver.Opener       = (*Driver)(nil)
	_ driver.Capable      = (*Driver)(nil)
	_ driver.Prober       = (*Driver)(nil)
	_ driver.MACer        = (*Driver)(nil)
	_ driver.KeyStorer    = (*Driver)(nil)
	_ driver.DataKeyMaker = (*Driver)(nil)
	_ driver.Checker      = (*Driver)(nil)
	_ driver.Randomizer   = (*Driver)(nil)
	_ driver.Maker        = New
)

// New makes a driver from the settings of a member (docs/hsm-driver.md): token or slot, pin_file, lmk_label, sessions.
func New(from map[string]string) (driver.Driver, error) {
	s, err := parseSettings(from)
	if err != nil {
		return nil, fmt.Errorf("hsm driver %s: %w", Name, err)
	}
	return &Driver{settings: s}, nil
}

// Name implements driver.Driver.
func (d *Driver) Name() string { return Name }

// Capabilities implements driver.Capable. Read-only sessions store no keys.
func (d *Driver) Capabilities() command.Capability {
	can := command.CanMAC | command.CanCheck | command.CanRandom | command.CanDataKey
	if !d.settings.readOnly {
		can |= command.CanStoreKey
	}
	return can
}

// ask does one operation in the session of the conversation. sent is the length of what goes in, for the journal.
func ask[T any](ctx context.Context, on driver.Conversation, code string, sent int, work func(*session) (T, error)) (out T, err error) {
	err = on.Do(ctx, code, sent, func(ctx context.Context, ch driver.Channel) (int, string, error) {
		s, ok := ch.(*session)
		if !ok {
			return 0, "", refusal(code, "the channel is not one of driver %s", Name)
		}
		v, err := call(ctx, s, code, sent, func() (T, error) { return work(s) })
		if err != nil {
			return 0, journalled(err), err
		}
		out = v
		b, _ := any(v).([]byte)
		return len(b), ckrOK.String(), nil
	})
	return out, err
}

// journalled is the result of a failed operation, as the journal writes it.
func journalled(err error) string {
	var e *command.Error
	switch {
	case errors.As(err, &e) && e.Code != "":
		return e.Code
	case driver.NotSent(err):
		return "not_sent"
	case errors.Is(err, driver.ErrMalformed):
		return "poisoned"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	}
	return "no_answer"
}
