package hsmclient

import (
	"context"
	"errors"
	"fmt"

	"github.com/keyward/keyward/keys"
)

// errRefused marks a member that answers but must not get work.
var errRefused = errors.New("member refused")

// admit diagnoses a member on a new connection, and again as the sign of life: a device whose LMK was changed while we were
// connected must not go on.
func (c *Client) admit(ctx context.Context, m *member, on conversation) error {
	diagnosis, err := c.cfg.Driver.Diagnose(ctx, on)
	if err == nil {
		err = c.checkLMK(m, diagnosis.LMKCheck)
	}
	if err != nil {
		c.noteFailure(m, err)
		return err
	}
	return nil
}

func (c *Client) checkLMK(m *member, check keys.KCV) error {
	if c.cfg.RefuseTestLMK && check.Matches(TestLMKCheck) {
		return fmt.Errorf("%w: %s holds the public test LMK (check value %s); load the LMK of domain %s or use a profile that allows test keys",
			errRefused, m.cfg.Name, check, c.cfg.Domain)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lmkCheck == "" {
		c.lmkCheck = check
	}
	if !check.Matches(c.lmkCheck) {
		return fmt.Errorf("%w: %s has the LMK check value %s, but domain %s has %s; load the right LMK or remove the member",
			errRefused, m.cfg.Name, check, c.cfg.Domain, c.lmkCheck)
	}
	return nil
}

// noteFailure keeps the reason for those who ask why no member is there.
func (c *Client) noteFailure(m *member, err error) {
	c.mu.Lock()
	news := m.lastErr == nil || m.lastErr.Error() != err.Error()
	m.lastErr = err
	if news {
		close(c.changed)
		c.changed = make(chan struct{})
	}
	c.mu.Unlock()
	if news && errors.Is(err, errRefused) {
		c.cfg.Log.Error("HSM refused", "member", m.cfg.Name, "cause", err)
	}
}

// onState hears from the link that the channel has become usable or is no more.
func (ch *channel) onState(connected bool, cause error) {
	c, m := ch.client, ch.member
	c.mu.Lock()
	if connected != ch.usable {
		ch.usable = connected
		if connected {
			m.usable++
			m.lastErr = nil
		} else {
			m.usable--
			m.lastErr = cause
		}
	}
	c.metrics.members[m.cfg.Name].Set(float64(m.usable))
	c.dispatch()
	close(c.changed)
	c.changed = make(chan struct{})
	c.mu.Unlock()
}
