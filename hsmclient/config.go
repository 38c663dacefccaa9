package hsmclient

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/hsmclient/exchangelog"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/keys"
)

// TestLMKCheck is what a device with the public test LMK answers to NC (facts/hsm.md §2.1).
const TestLMKCheck keys.KCV = "2686047444912422"

// testBlockLMKCheck is that of the public test LMK for key blocks, as the simulator has it (docs/hsm-sim.md §9.1).
const testBlockLMKCheck keys.KCV = "DB3FB663EE8D2B66"

// isTestLMK says that an LMK check value is that of a public test LMK.
func isTestLMK(check keys.KCV) bool {
	return check.Matches(TestLMKCheck) || check.Matches(testBlockLMKCheck)
}

// Values where the configuration leaves zero.
const (
	// defaultTimeout bounds one command on one member. Devices need 50 to 70 ms at worst (facts/hsm.md §7); a terminal waits
	// 60 s for everything, of which two tries here are a small part.
	defaultTimeout = 3 * time.Second
	// defaultProbeEvery and defaultProbeTimeout find a silent member within 1.7 s, ahead of the 6 s of other products (facts/hsm.md §6).
	defaultProbeEvery   = time.Second
	defaultProbeTimeout = 700 * time.Millisecond
	// Second probing begins quickly, because most faults are short, and ends slowly, so as not to load a sick device.
	defaultBackoffMin = 200 * time.Millisecond
	defaultBackoffMax = 10 * time.Second
	// defaultAdmitTimes keeps out a device that is just restarting and answers now and then.
	defaultAdmitTimes = 3
	// defaultHoldDown keeps standby members in while working ones flap.
	defaultHoldDown = 5 * time.Second
	// defaultDepth fills a device's pipeline: 6 channels of 16 are more than devices work on at once.
	defaultDepth       = 16
	defaultMaxPriority = 16
	defaultMaxMembers  = 64
	// defaultMaxWaiting bounds the callers that wait for a place: above it waiting would outlast their deadlines anyway.
	defaultMaxWaiting = 1024
)

// Config describes a cluster. Domains and Drivers are required.
type Config struct {
	// Name tells the clusters of one system apart in logs, metrics and the journal, for example "online" (default: DefaultDomain).
	Name string
	// Instance is part of the serial numbers of exchanges, so that they are unique among processes (default "local").
	Instance string
	// DefaultDomain serves commands without a key and members that name no domain (default: the first of Domains).
	DefaultDomain string
	// Domains are the LMK domains, at least one.
	Domains []Domain
	// Members are there from the start. They may be down; a domain may have none.
	Members []member.Spec
	// Drivers make the drivers that members name, for example "racal".
	Drivers map[string]driver.Maker
	// RefuseTestLMK fences members that hold a public test LMK; production profiles set it.
	RefuseTestLMK bool
	// Timeout bounds one command on one member (default 3 s); the caller's deadline bounds the whole.
	Timeout time.Duration
	Probing Probing
	// Readmit is what a member becomes that was down or fenced and has passed admission again: standby (default) or working.
	Readmit member.State
	// HoldDown is how long engaged standby members stay when they are needed no more (default 5 s).
	HoldDown time.Duration
	// MaxPriority is the highest priority number (default 16), MaxMembers bounds the list (64), MaxWaiting the callers that wait for a
	// place in one domain (1024); Depth is how many requests may be under way on one channel (16).
	MaxPriority, MaxMembers, MaxWaiting, Depth int
	// Journal receives every exchange, probes included; nil means none.
	Journal Journal
	// OnSwitch hears of every switch, in order, from one goroutine. It must return quickly.
	OnSwitch func(member.Switch)
	// Log receives changes and faults of members (default: nowhere).
	Log *slog.Logger
	// Registerer receives the metrics keyward_hsm_* (default: none).
	Registerer prometheus.Registerer
}

// Domain is one LMK domain: the members that hold the same local master key.
type Domain struct {
	Name string
	// LMKCheck is the LMK check value that members must have. Empty: that of the first member which is admitted.
	LMKCheck keys.KCV
	// Firmware lists what is allowed, exactly or with a trailing *; several during an upgrade. Empty: any.
	Firmware []string
	// Canary is a key whose check value members must compute at admission; its KCV is the right answer. Zero: no known-answer test.
	Canary keys.Wrapped
	// Needs is what the service will ask for: a member whose driver has less is refused.
	Needs command.Capability
	// Floor is the number of healthy working members below which standby members step in (default 1).
	Floor int
}

// Probing is the rhythm of heartbeat and second probing.
type Probing struct {
	Every, Timeout         time.Duration // heartbeat: 1 s, 700 ms
	BackoffMin, BackoffMax time.Duration // second probing: 200 ms to 10 s
	AdmitTimes             int           // passes in a row before a member is admitted: 3
}

// Journal receives exchanges. Record must not block.
type Journal interface {
	Record(exchangelog.Exchange)
}

// switchable is a journal that keeps count of what it leaves out while it is off, so that the gap stands in it.
type switchable interface {
	Switch(on bool)
	On() bool
}

// withDefaults checks the configuration and fills in what was left out. Members are checked when they are made.
func (c Config) withDefaults() (Config, error) {
	if len(c.Domains) == 0 || c.Domains[0].Name == "" {
		return c, errors.New("hsm cluster: no LMK domain given, or it has no name")
	}
	if len(c.Drivers) == 0 {
		return c, errors.New("hsm cluster: no driver given")
	}
	if c.DefaultDomain == "" {
		c.DefaultDomain = c.Domains[0].Name
	}
	if c.Name == "" {
		c.Name = c.DefaultDomain
	}
	if c.Instance == "" {
		c.Instance = "local"
	}
	names := map[string]bool{}
	domains := make([]Domain, len(c.Domains))
	for i, d := range c.Domains {
		if d.Name == "" || names[d.Name] {
			return c, fmt.Errorf("hsm cluster %s: LMK domain %d needs a name of its own", c.Name, i+1)
		}
		names[d.Name] = true
		var err error
		if domains[i], err = c.checkDomain(d); err != nil {
			return c, fmt.Errorf("hsm cluster %s: LMK domain %s: %w", c.Name, d.Name, err)
		}
	}
	c.Domains = domains
	if !names[c.DefaultDomain] {
		return c, fmt.Errorf("hsm cluster %s: the default LMK domain %q is not among the domains", c.Name, c.DefaultDomain)
	}
	switch c.Readmit {
	case "":
		c.Readmit = member.Standby
	case member.Standby, member.Working:
	default:
		return c, fmt.Errorf("hsm cluster %s: a recovered member can come back as %s or %s, not as %q", c.Name, member.Standby, member.Working, c.Readmit)
	}
	c.Timeout = orDefault(c.Timeout, defaultTimeout)
	c.Probing = c.Probing.withDefaults()
	c.HoldDown = orDefault(c.HoldDown, defaultHoldDown)
	c.MaxPriority = orDefault(c.MaxPriority, defaultMaxPriority)
	c.MaxMembers = orDefault(c.MaxMembers, defaultMaxMembers)
	c.MaxWaiting = orDefault(c.MaxWaiting, defaultMaxWaiting)
	c.Depth = orDefault(c.Depth, defaultDepth)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Log = c.Log.With("component", "hsmclient", "hsm_group", c.Name)
	return c, nil
}

func (c *Config) checkDomain(d Domain) (Domain, error) {
	if d.LMKCheck != "" {
		check, err := keys.ParseKCV(string(d.LMKCheck))
		if err != nil {
			return d, fmt.Errorf("LMK check value: %w", err)
		}
		d.LMKCheck = check
	}
	if c.RefuseTestLMK && isTestLMK(d.LMKCheck) {
		return d, errors.New("the LMK check value is that of a public test LMK, which this profile refuses")
	}
	if !d.Canary.IsZero() && (d.Canary.KCV == "" || d.Canary.Domain != "" && d.Canary.Domain != d.Name) {
		return d, errors.New("the canary key needs its check value, and must be under the LMK of this domain")
	}
	d.Floor = orDefault(d.Floor, 1)
	return d, nil
}

func (p Probing) withDefaults() Probing {
	p.Every = orDefault(p.Every, defaultProbeEvery)
	p.Timeout = orDefault(p.Timeout, defaultProbeTimeout)
	p.BackoffMin = orDefault(p.BackoffMin, defaultBackoffMin)
	p.BackoffMax = max(p.BackoffMin, orDefault(p.BackoffMax, defaultBackoffMax))
	p.AdmitTimes = orDefault(p.AdmitTimes, defaultAdmitTimes)
	return p
}

// orDefault returns v, or def where v is not above zero.
func orDefault[T int | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}
