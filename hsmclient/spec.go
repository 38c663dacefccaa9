package hsmclient

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/hsmclient/member"
)

const (
	defaultDriver   = "racal"
	defaultChannels = 6
	// spareConnections are there beside the data channels: the second probing, and a channel that is being closed.
	spareConnections = 2
	// maxConnections is the number of sockets that the smallest devices accept in all (facts/hsm.md §1.1).
	maxConnections = 64
	maxNameLen     = 32
	maxDepth       = 256
	maxWeight      = 1000
)

// fill checks what a member is told to be and fills in what was left out. Problems are refusals.
func (c *Config) fill(s member.Spec) (member.Spec, error) {
	invalid := func(next, format string, args ...any) (member.Spec, error) {
		return s, member.Refuse(member.Invalid, next, "member "+s.Name+": "+format, args...)
	}
	if s.Name == "" || len(s.Name) > maxNameLen || strings.Trim(s.Name, nameLetters) != "" {
		return invalid("choose another name", "a name has 1 to %d letters, digits and hyphens", maxNameLen)
	}
	if s.Domain == "" {
		s.Domain = c.DefaultDomain
	}
	if s.Driver == "" {
		s.Driver = defaultDriver
	}
	if s.Role == "" {
		s.Role = member.Working
	}
	for _, v := range []struct {
		v    *int
		def  int
		most int
		what string
	}{
		{&s.Weight, 1, maxWeight, "weight"}, {&s.Channels, defaultChannels, maxConnections - 1, "channels"}, {&s.Depth, c.Depth, maxDepth, "depth"},
	} {
		if *v.v == 0 {
			*v.v = v.def
		}
		if *v.v < 0 || *v.v > v.most {
			return invalid("give a number within the bounds", "%s is %d, possible are 1 to %d", v.what, *v.v, v.most)
		}
	}
	if s.Connections == 0 {
		s.Connections = min(s.Channels+spareConnections, maxConnections)
	}
	switch {
	case s.Role != member.Working && s.Role != member.Standby && s.Role != member.Fenced:
		return invalid("give working, standby or fenced", "the role %q is none", s.Role)
	case s.Connections <= s.Channels || s.Connections > maxConnections:
		return invalid("raise connections or take fewer channels", "%d connections for %d channels: the second probing needs one more, and a device takes %d at most",
			s.Connections, s.Channels, maxConnections)
	case s.Addr == "":
		return invalid("give host:port", "no address")
	case s.Rated < 0:
		return invalid("give commands per second, or 0 when it is unknown", "the rated speed is negative")
	case c.Drivers[s.Driver] == nil:
		return invalid("use one of "+strings.Join(slices.Sorted(maps.Keys(c.Drivers)), ", "), "there is no driver %q", s.Driver)
	case !slices.ContainsFunc(c.Domains, func(d Domain) bool { return d.Name == s.Domain }):
		return invalid("use a configured domain", "there is no LMK domain %q", s.Domain)
	}
	s.Settings = maps.Clone(s.Settings)
	if s.Priority == 0 { // left out
		s.Priority = 1
	}
	return s, c.checkPriority(s.Name, s.Priority)
}

const nameLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-"

func (c *Config) checkPriority(name string, priority int) error {
	if priority < 1 || priority > c.MaxPriority {
		return member.Refuse(member.Invalid, "give a number within the bounds; 1 is served first", "member %s: priority %d, possible are 1 to %d", name, priority, c.MaxPriority)
	}
	return nil
}

// equip makes the driver of a member and reads its TLS files.
func (c *Config) equip(s member.Spec, d *Domain) (driver.Driver, *tls.Config, error) {
	refuse := func(next string, err error) (driver.Driver, *tls.Config, error) {
		return nil, nil, member.Refuse(member.Invalid, next, "member %s: %v", s.Name, err)
	}
	drv, err := c.Drivers[s.Driver](s.Settings)
	if err != nil {
		return refuse("correct the settings", err)
	}
	if _, ok := drv.(driver.Opener); !ok {
		return refuse("use another driver", fmt.Errorf("driver %s cannot open channels", drv.Name()))
	}
	if a, ok := drv.(driver.AddrChecker); ok {
		if err := a.CheckAddr(s.Addr); err != nil {
			return refuse("give the address as the driver takes it, for example 10.3.0.14:1500", err)
		}
	}
	can := abilities(drv)
	if missing := can.Missing(d.Needs); missing != 0 {
		return refuse("use another driver, or ask for less", fmt.Errorf("driver %s cannot: %s", drv.Name(), missing))
	}
	if !d.Canary.IsZero() && !can.Has(command.CanCheck) {
		return refuse("leave the canary key out, or use another driver", fmt.Errorf("driver %s cannot compute the check value of the canary key", drv.Name()))
	}
	if err := checkProbe(drv, s.Probe); err != nil {
		return refuse("choose another probe command", err)
	}
	t, err := tlsConfig(s)
	if err != nil {
		return refuse("check the TLS files", err)
	}
	return drv, t, nil
}

// checkProbe says whether the driver can use the heartbeat command.
func checkProbe(drv driver.Driver, name string) error {
	p, ok := drv.(driver.Prober)
	switch {
	case ok:
		return p.CheckProbe(name)
	case name != "":
		return fmt.Errorf("driver %s has no choice of heartbeat commands", drv.Name())
	}
	return nil
}

func tlsConfig(s member.Spec) (*tls.Config, error) {
	if s.TLS == nil {
		return nil, nil //nolint:nilnil // No TLS is an answer, not a fault.
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: s.TLS.ServerName}
	if cfg.ServerName == "" {
		host, _, err := net.SplitHostPort(s.Addr)
		if err != nil {
			return nil, fmt.Errorf("address: %w", err)
		}
		cfg.ServerName = host
	}
	if s.TLS.Cert != "" || s.TLS.Key != "" {
		pair, err := tls.LoadX509KeyPair(s.TLS.Cert, s.TLS.Key)
		if err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	if s.TLS.CA != "" {
		pem, err := os.ReadFile(s.TLS.CA)
		if err != nil {
			return nil, fmt.Errorf("authority: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("the authority's file holds no certificate")
		}
	}
	return cfg, nil
}

// abilities are what a driver states, or what its methods show where it states nothing.
func abilities(d driver.Driver) (can command.Capability) {
	if c, ok := d.(driver.Capable); ok {
		return c.Capabilities()
	}
	has := func(ok bool, bit command.Capability) {
		if ok {
			can |= bit
		}
	}
	_, ok := d.(driver.WorkKeyMaker)
	has(ok, command.CanMakeWorkKey)
	_, ok = d.(driver.PINTranslator)
	has(ok, command.CanTranslatePIN)
	_, ok = d.(driver.MACer)
	has(ok, command.CanMAC)
	_, ok = d.(driver.DataDecrypter)
	has(ok, command.CanDecryptTrack)
	_, ok = d.(driver.Diversifier)
	has(ok, command.CanDiversify)
	_, ok = d.(driver.CardExporter)
	has(ok, command.CanExportForCard)
	_, ok = d.(driver.Checker)
	has(ok, command.CanCheck)
	_, ok = d.(driver.Randomizer)
	has(ok, command.CanRandom)
	_, ok = d.(driver.KeyStorer)
	has(ok, command.CanStoreKey)
	_, ok = d.(driver.DataKeyMaker)
	has(ok, command.CanDataKey)
	_, ok = d.(driver.ZoneExchanger)
	has(ok, command.CanExchangeZone)
	_, ok = d.(driver.LMKTranslator)
	has(ok, command.CanTranslateLMK)
	return can
}
