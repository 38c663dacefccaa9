package hsmclient

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/keys"
)

// isDeviation tells a device that must not get work from one that does not answer.
func isDeviation(err error) bool { return errors.Is(err, errDeviates) }

// errDeviates marks a device that answers but must not get work.
var errDeviates = errors.New("the device deviates")

// examine probes a member on a fresh connection: does it answer, has it the LMK and the firmware of its domain, and, when full, does it
// compute the check value of the canary key and the same MAC as another member. An error that is not errDeviates means that it does not
// answer.
func (n *node) examine(ctx context.Context, full bool) (member.Device, error) {
	bound, cancel := context.WithTimeout(ctx, n.pool.c.cfg.Probing.Timeout)
	defer cancel()
	l, err := n.connect(bound, 0, 1)
	if err != nil {
		return member.Device{}, err
	}
	defer func() {
		l.ch.Close(errProbed)
		n.giveConnection()
	}()
	bound, cancel = context.WithTimeout(ctx, n.pool.c.cfg.Probing.Timeout)
	defer cancel()
	device, err := n.diagnose(bound, l)
	if err != nil {
		return device, err
	}
	if !full {
		return device, nil
	}
	return device, n.prove(ctx, l)
}

var errProbed = errors.New("the probe is done")

// diagnose asks the device who it is and compares that with its domain. What does not belong is errDeviates.
func (n *node) diagnose(ctx context.Context, l *lane) (member.Device, error) {
	found, err := n.driver.Diagnose(ctx, probe{lane: l})
	if err != nil {
		return member.Device{}, err
	}
	device := member.Device{Serial: found.Serial, Firmware: found.Firmware, LMKCheck: found.LMKCheck, SeenAt: time.Now()}
	if f := n.fault.Load(); f != nil && f.Kind == member.FaultWrongLMK {
		device.LMKCheck = drillLMKCheck
	}
	p := n.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	return device, p.belongs(n.name, device)
}

// belongs compares a device with the domain. The caller holds mu.
func (p *pool) belongs(name string, d member.Device) error {
	switch {
	case p.c.cfg.RefuseTestLMK && isTestLMK(d.LMKCheck):
		return fmt.Errorf("%w: %s holds a public test LMK (check value %s); load the LMK of domain %s or use a profile that allows test keys",
			errDeviates, name, d.LMKCheck, p.cfg.Name)
	case p.lmk != "" && !d.LMKCheck.Matches(p.lmk):
		return fmt.Errorf("%w: %s has the LMK check value %s, but domain %s has %s; load the right LMK or remove the member",
			errDeviates, name, shown(d.LMKCheck), p.cfg.Name, p.lmk)
	case !allowed(p.cfg.Firmware, d.Firmware):
		return fmt.Errorf("%w: %s has firmware %q, allowed are %s; upgrade it or add its firmware to the list",
			errDeviates, name, d.Firmware, strings.Join(p.cfg.Firmware, ", "))
	}
	return nil
}

// agree is belongs for a device that is about to be used: the first of a domain without a configured check value gives it. The caller
// holds mu.
func (p *pool) agree(n *node, d member.Device) error {
	if err := p.belongs(n.name, d); err != nil {
		return err
	}
	if p.lmk == "" && n.gateOpen {
		p.lmk = d.LMKCheck
	}
	return nil
}

func shown(check keys.KCV) string {
	if check == "" {
		return "none"
	}
	return string(check)
}

// allowed says that a firmware is on the list; an entry that ends in * allows what begins so.
func allowed(list []string, firmware string) bool {
	for _, entry := range list {
		start, open := strings.CutSuffix(entry, "*")
		if entry == firmware || open && strings.HasPrefix(firmware, start) {
			return true
		}
	}
	return len(list) == 0
}

// knownAnswer lets the device compute the check value of the canary key, which shows that it works with the keys of its domain. An
// error code that speaks of a sick device, and no answer at all, are no deviations.
func (n *node) knownAnswer(ctx context.Context, l *lane) error {
	canary := n.pool.cfg.Canary
	checker, ok := n.driver.(driver.Checker)
	if !ok {
		return fmt.Errorf("%w: driver %s cannot compute check values", errDeviates, n.driver.Name())
	}
	ctx, cancel := context.WithTimeout(ctx, n.pool.c.cfg.Probing.Timeout)
	defer cancel()
	got, err := checker.CheckValue(ctx, probe{lane: l}, canary)
	var e *command.Error
	switch {
	case errors.As(err, &e) && e.Code != "" && e.Class != command.MemberFault:
		return fmt.Errorf("%w: %s failed the known-answer test: it answered %s to %s for the canary key", errDeviates, n.name, e.Code, e.Command)
	case refuses(err): // the driver, before it asked the device
		return fmt.Errorf("%w: %s cannot work with the canary key of its domain, correct its settings: %w", errDeviates, n.name, err)
	case err != nil:
		return err
	case !got.Matches(canary.KCV):
		return fmt.Errorf("%w: %s failed the known-answer test: the canary key has another check value there", errDeviates, n.name)
	}
	return nil
}

// probe is the conversation of a probe.
type probe struct{ lane *lane }

var _ driver.Conversation = probe{}

// Exchange implements driver.Conversation.
func (v probe) Exchange(ctx context.Context, request []byte) ([]byte, error) {
	began := time.Now()
	answer, err := v.lane.exchange(ctx, request)
	if j := v.lane.node.pool.c.journal(); j != nil {
		v.lane.record(j, forProbe, codeOf(request), began, time.Now(), len(request), len(answer), v.lane.result(answer, err))
	}
	return answer, err
}

// Do implements driver.Conversation.
func (v probe) Do(ctx context.Context, code string, sent int, work func(context.Context, driver.Channel) (int, string, error)) error {
	began := time.Now()
	received, result, err := v.lane.do(ctx, code, work)
	if j := v.lane.node.pool.c.journal(); j != nil {
		if result == "" {
			result = v.lane.result(nil, err)
		}
		v.lane.record(j, forProbe, code, began, time.Now(), sent, received, result)
	}
	return err
}

// forProbe is the purpose of probes in the journal.
const forProbe = "probe"
