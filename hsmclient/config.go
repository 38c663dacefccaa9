package hsmclient

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/keys"
)

// TestLMKCheck is what a device with the public test LMK answers to NC (facts/hsm.md §2.1).
const TestLMKCheck keys.KCV = "2686047444912422"

// Values where the configuration leaves zero.
const (
	// defaultTimeout bounds one command on one member. Devices need 50 to 70 ms at worst (facts/hsm.md §7); a terminal waits
	// 60 s for everything, of which two tries here are a small part.
	defaultTimeout = 3 * time.Second
	// defaultProbeEvery is the vendor's interval of the liveness command (facts/hsm.md §1.1).
	defaultProbeEvery = 5 * time.Second
	// defaultMaxInFlight fills a device's pipeline without queueing more than a few hundred milliseconds of its work.
	defaultMaxInFlight = 64
	// defaultMaxWaiting bounds the callers that wait for a place: above it waiting would outlast their deadlines anyway.
	defaultMaxWaiting = 1024
	// maxChannels is the number of sockets that the smallest devices accept in all (facts/hsm.md §1.1).
	maxChannels = 64
)

// Config describes the members of one LMK domain. Domain, Driver and at least one member are required.
type Config struct {
	// Name tells the clients of one process apart in logs and metrics, for example "online" (default: Domain).
	Name string
	// Domain is the name of the LMK domain; every key of a request must carry it.
	Domain string
	// LMKCheck is the LMK check value that members must have. Empty: that of the first member which answers.
	LMKCheck keys.KCV
	// RefuseTestLMK refuses members that hold the public test LMK; production profiles set it.
	RefuseTestLMK bool
	// Members are the devices. They may be down at start.
	Members []Member
	// Driver speaks their host commands.
	Driver driver.Driver
	// Timeout bounds one command on one member (default 3 s); the caller's deadline bounds the whole.
	Timeout time.Duration
	// ProbeEvery is how long a member may be silent before it is asked for a sign of life (default 5 s).
	ProbeEvery time.Duration
	// MaxWaiting bounds the callers that wait for a free place (default 1024); further ones get Unavailable at once.
	MaxWaiting int
	// Log receives changes and faults of members (default: nowhere).
	Log *slog.Logger
	// Registerer receives the metrics keyward_hsm_* (default: none).
	Registerer prometheus.Registerer
}

// Member is one device.
type Member struct {
	// Name appears in logs, errors and metrics; unique within the client.
	Name string
	// Addr is host:port of the host command interface.
	Addr string
	// TLS, when not nil, is spoken with the device.
	TLS *tls.Config
	// Channels is the number of connections (default 1, at most 64).
	Channels int
	// MaxInFlight bounds the commands on each channel (default 64).
	MaxInFlight int
}

// withDefaults checks the configuration and fills in what was left out.
func (c Config) withDefaults() (Config, error) {
	if c.Domain == "" {
		return c, errors.New("hsm client: the LMK domain has no name")
	}
	if c.Driver == nil {
		return c, fmt.Errorf("hsm client %s: no driver given", c.Domain)
	}
	if len(c.Members) == 0 {
		return c, fmt.Errorf("hsm client %s: no member given", c.Domain)
	}
	if c.LMKCheck != "" {
		check, err := keys.ParseKCV(string(c.LMKCheck))
		if err != nil {
			return c, fmt.Errorf("hsm client %s: LMK check value: %w", c.Domain, err)
		}
		c.LMKCheck = check
	}
	if c.RefuseTestLMK && c.LMKCheck.Matches(TestLMKCheck) {
		return c, fmt.Errorf("hsm client %s: the LMK check value is that of the public test LMK, which this profile refuses", c.Domain)
	}
	if c.Name == "" {
		c.Name = c.Domain
	}
	c.Timeout = orDefault(c.Timeout, defaultTimeout)
	c.ProbeEvery = orDefault(c.ProbeEvery, defaultProbeEvery)
	c.MaxWaiting = orDefault(c.MaxWaiting, defaultMaxWaiting)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Log = c.Log.With("component", "hsmclient", "hsm_group", c.Name)
	names := map[string]bool{}
	members := make([]Member, len(c.Members))
	for i, m := range c.Members {
		if m.Name == "" || m.Addr == "" || names[m.Name] {
			return c, fmt.Errorf("hsm client %s: member %d needs an address and a name of its own", c.Name, i+1)
		}
		names[m.Name] = true
		m.Channels = orDefault(m.Channels, 1)
		m.MaxInFlight = orDefault(m.MaxInFlight, defaultMaxInFlight)
		if m.Channels > maxChannels {
			return c, fmt.Errorf("hsm client %s: member %s has %d channels, at most %d", c.Name, m.Name, m.Channels, maxChannels)
		}
		members[i] = m
	}
	c.Members = members
	return c, nil
}

// orDefault returns v, or def where v is not above zero.
func orDefault[T int | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}
