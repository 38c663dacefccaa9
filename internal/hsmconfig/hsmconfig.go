// Package hsmconfig is the configuration of a group of HSMs: the engine, its LMK domains and its members, in one file or one file per
// device (row C10). It knows the words of the file and what a profile forbids; package hsmclient checks the rest.
package hsmconfig

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/keys"
)

const (
	// defaultTimeout bounds one command: devices need 50 to 70 ms at worst (facts/hsm.md §7).
	defaultTimeout = 3 * time.Second
	// defaultRetention keeps the switches of a quarter; minRetention keeps at least those that the night shift hands over.
	defaultRetention = 90 * 24 * time.Hour
	minRetention     = 24 * time.Hour
	// maxMemberFiles bounds a directory that somebody named by mistake.
	maxMemberFiles = 256
)

// Config is one group of devices: the engine and its members (row C10). Domain, LMKCheck, Firmware, Canary, Floor and Settings are
// those of the default LMK domain; most groups have no other. Zero means the cluster's default (docs/configuration.md).
type Config struct {
	Domain   string   `yaml:"domain"`
	LMKCheck keys.KCV `yaml:"lmk_check"`        // 16 hex digits; empty: the first device's
	Firmware []string `yaml:"firmware"`         // allowed, exact or with a trailing *; empty: any (not in production)
	Canary   *Canary  `yaml:"canary,omitempty"` // key of the known-answer test; production needs it
	Floor    int      `yaml:"floor"`            // working members below which standby ones are engaged
	// Settings are the driver's, for every member of the domain that does not set them itself.
	Settings map[string]string `yaml:"settings"`
	Domains  []Domain          `yaml:"domains"` // further LMK domains
	Members  []Member          `yaml:"members"`
	// MembersDir holds one YAML file per device, read after Members. It must exist when it is named; a relative path is that of the
	// working directory.
	MembersDir string `yaml:"members_dir"`
	// Places are where members may be that an operator adds or a saved list names: networks (10.3.0.0/24), addresses, host names, and paths
	// of libraries. Empty: any host, and the libraries of configured members.
	Places []string `yaml:"places"`
	// PrivatePlaces are those networks, addresses and host names whose plain lines are private, and TLS the files of the others. In production
	// such a member gets neither from elsewhere; what configured members have counts too (Joining).
	PrivatePlaces []string `yaml:"private_places"`
	TLS           *TLS     `yaml:"tls,omitempty"`

	Timeout     service.Duration `yaml:"timeout"` // of one command on one device
	Probing     Probing          `yaml:"probing"`
	Readmit     member.State     `yaml:"readmit"` // what a recovered device comes back as: standby or working
	HoldDown    service.Duration `yaml:"hold_down"`
	MaxPriority int              `yaml:"max_priority"`
	MaxMembers  int              `yaml:"max_members"`
	MaxWaiting  int              `yaml:"max_waiting"`
	Depth       int              `yaml:"depth"`
	Journal     Journal          `yaml:"journal"`
	Drills      Drills           `yaml:"drills"`
	List        List             `yaml:"list"`
}

// Domain is an LMK domain beside the default one: an old or a new master key, or another maker.
type Domain struct {
	Name     string            `yaml:"name"`
	LMKCheck keys.KCV          `yaml:"lmk_check"`
	Firmware []string          `yaml:"firmware"`
	Canary   *Canary           `yaml:"canary,omitempty"`
	Floor    int               `yaml:"floor"`
	Settings map[string]string `yaml:"settings"`
	// Storage marks a domain for storing, sealing and data keys only, so that its drivers need none of the payment commands.
	Storage bool `yaml:"storage"`
}

// Canary is a key whose check value every device of the domain must compute before it gets traffic (row C7).
type Canary struct {
	Usage      keys.Usage     `yaml:"usage"`
	Algorithm  keys.Algorithm `yaml:"algorithm"`
	Cryptogram string         `yaml:"cryptogram"`
	KCV        keys.KCV       `yaml:"kcv"`
}

// Key is the canary as a key of the domain, zero where none is configured.
func (c *Canary) Key(domain string) keys.Wrapped {
	if c == nil {
		return keys.Wrapped{}
	}
	return keys.Wrapped{Usage: c.Usage, Algorithm: c.Algorithm, Version: 1, Domain: domain, Cryptogram: c.Cryptogram, KCV: c.KCV}
}

// Probing sets the heartbeat and the second probing (row C6).
type Probing struct {
	Every      service.Duration `yaml:"every"`
	Timeout    service.Duration `yaml:"timeout"`
	BackoffMin service.Duration `yaml:"backoff_min"`
	BackoffMax service.Duration `yaml:"backoff_max"`
	AdmitTimes int              `yaml:"admit_times"` // passes in a row before a device gets traffic
}

// Journal sets the journal of exchanges (row C9).
type Journal struct {
	Dir       string           `yaml:"dir"`        // empty: no journal
	Off       bool             `yaml:"off"`        // starts switched off; it can be switched on while running
	FileBytes int64            `yaml:"file_bytes"` // a file of this size is closed and the next one begun
	FileAge   service.Duration `yaml:"file_age"`   // likewise
	KeepFiles int              `yaml:"keep_files"` // the oldest above this number are removed
	KeepBytes int64            `yaml:"keep_bytes"` // likewise
	KeepAge   service.Duration `yaml:"keep_age"`   // likewise
}

// Drills sets where the reports of failure drills are kept (row X5).
type Drills struct {
	Dir  string `yaml:"dir"`  // empty: in memory
	Keep int    `yaml:"keep"` // the newest
}

// List sets the member list that all instances share (docs/hsm-operation.md).
type List struct {
	Shared    bool             `yaml:"shared"`     // false: this file rules, and nothing can be made permanent
	LocalCopy string           `yaml:"local_copy"` // file with the last list, for a start without the database; empty: none
	Retention service.Duration `yaml:"retention"`  // of the history of switches in the database
}

// Operators say who may change HSMs, by the common names of their certificates (row C13).
type Operators struct {
	Operators []string `yaml:"operators"` // people; empty: nobody
	Relays    []string `yaml:"relays"`    // services that pass on what an operator orders: posv
}

// Operation is the HTTPS listener for the operators of HSMs; without an address there is none.
type Operation struct {
	Addr      string             `yaml:"addr"`
	TLS       *service.TLSConfig `yaml:"tls,omitempty"`
	Operators []string           `yaml:"operators"` // as in Operators
	Relays    []string           `yaml:"relays"`
}

// Check refuses a listener that could not tell who asks.
func (o Operation) Check() error {
	if o.Addr != "" && o.TLS == nil {
		return errors.New("hsm_operation.tls: cert, key and ca are needed: HSMs are operated with certificates only")
	}
	return nil
}

// Member is one device: member.Spec in a configuration file.
type Member struct {
	Name        string            `yaml:"name"`
	Domain      string            `yaml:"domain"`
	Driver      string            `yaml:"driver"`
	Addr        string            `yaml:"addr"`
	Role        member.State      `yaml:"role"`
	Priority    int               `yaml:"priority"`
	Weight      int               `yaml:"weight"`
	Channels    int               `yaml:"channels"`
	Connections int               `yaml:"connections"`
	Depth       int               `yaml:"depth"`
	Rated       int               `yaml:"rated"`
	Probe       string            `yaml:"probe"`
	Settings    map[string]string `yaml:"settings"`
	TLS         *TLS              `yaml:"tls,omitempty"`
	Private     bool              `yaml:"private"` // the line is protected otherwise; production demands this or tls
}

// TLS names the PEM files of the connection to a device.
type TLS struct {
	Cert       string             `yaml:"cert"`
	Key        service.SecretFile `yaml:"key"`
	CA         string             `yaml:"ca"`
	ServerName string             `yaml:"server_name"` // empty: the host of the address
}

// Spec is the member as the cluster takes it.
func (m Member) Spec() member.Spec {
	s := member.Spec{
		Name: m.Name, Domain: m.Domain, Driver: m.Driver, Addr: m.Addr, Role: m.Role, Priority: m.Priority, Weight: m.Weight,
		Channels: m.Channels, Connections: m.Connections, Depth: m.Depth, Rated: m.Rated, Probe: m.Probe, Settings: maps.Clone(m.Settings),
		Private: m.Private,
	}
	s.TLS = m.TLS.spec()
	return s
}

func (t *TLS) spec() *member.TLS {
	if t == nil {
		return nil
	}
	return &member.TLS{Cert: t.Cert, Key: string(t.Key), CA: t.CA, ServerName: t.ServerName}
}

// whole says that nothing is missing.
func whole(t *member.TLS) bool { return t.CA != "" && (t.Cert == "") == (t.Key == "") }

// Default holds the defaults that a configuration file shows; the others are the cluster's.
func Default() Config {
	return Config{Timeout: service.Duration(defaultTimeout), List: List{Shared: true, Retention: service.Duration(defaultRetention)}}
}

// Specs are the members of file and directory, complete as Complete makes them. The directory is read once, here.
func (c Config) Specs(profile service.Profile) ([]member.Spec, error) {
	members := slices.Clone(c.Members)
	if c.MembersDir != "" {
		more, err := readMembers(c.MembersDir, profile)
		if err != nil {
			return nil, err
		}
		members = append(members, more...)
	}
	var errs []error
	specs := make([]member.Spec, 0, len(members))
	names := map[string]bool{}
	for _, m := range members {
		s := c.Complete(profile, m.Spec())
		if names[s.Name] {
			errs = append(errs, fmt.Errorf("hsm.members: %s stands twice: give each device a name of its own", s.Name))
		}
		names[s.Name] = true
		errs = append(errs, c.CheckSpec(profile, s))
		specs = append(specs, s)
	}
	return specs, errors.Join(errs...)
}

// memberFile is the file of one device: the same keys as an entry of members. The profile makes service.LoadConfig check the key's rights.
type memberFile struct {
	Member  `yaml:",inline"`
	Profile service.Profile `yaml:"-"`
}

func readMembers(dir string, profile service.Profile) ([]Member, error) {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("hsm.members_dir: %s is no directory that can be read: make it, or leave the key out", dir)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, fmt.Errorf("hsm.members_dir: %w", err)
	}
	if len(files) > maxMemberFiles {
		return nil, fmt.Errorf("hsm.members_dir: %d files, at most %d", len(files), maxMemberFiles)
	}
	members := make([]Member, 0, len(files))
	var errs []error
	for _, file := range files { // Glob returns names in order
		m := memberFile{Profile: profile}
		if err := service.LoadConfig(file, &m); err != nil {
			errs = append(errs, err)
			continue
		}
		if m.Name == "" {
			m.Name = strings.TrimSuffix(filepath.Base(file), ".yaml")
		}
		members = append(members, m.Member)
	}
	return members, errors.Join(errs...)
}

// Complete fills in what a member takes from the group: the default domain, the driver settings of its domain, and in production the
// key-block LMK, unless something else is said.
func (c Config) Complete(profile service.Profile, s member.Spec) member.Spec {
	if s.Domain == "" {
		s.Domain = c.Domain
	}
	settings := c.Settings
	for _, d := range c.Domains {
		if d.Name == s.Domain {
			settings = d.Settings
		}
	}
	if len(settings) > 0 {
		s.Settings = maps.Clone(s.Settings)
		if s.Settings == nil {
			s.Settings = map[string]string{}
		}
		for k, v := range settings {
			if _, own := s.Settings[k]; !own {
				s.Settings[k] = v
			}
		}
	}
	if profile == service.Production && (s.Driver == "" || s.Driver == racalDriver) && s.Settings[settingLMK] == "" && s.Settings["variant_set"] != "sjj1310" && s.Settings["legacy_types"] != "true" {
		s.Settings = maps.Clone(s.Settings)
		if s.Settings == nil {
			s.Settings = map[string]string{}
		}
		s.Settings[settingLMK] = "keyblock"
	}
	return s
}

// The settings that decide the form of keys (docs/hsm-driver.md). Key blocks bind usage and algorithm to a key, which variants do not.
const (
	racalDriver = "racal"
	settingLMK  = "lmk"
)

// CheckSpec refuses a member that the profile forbids, and believes what the member says of its line. It holds for configured members, and as a part of Joining for those added while
// running; what the cluster itself checks is not repeated here.
func (c Config) CheckSpec(profile service.Profile, s member.Spec) error {
	if s.Name == "" || s.Addr == "" {
		return errors.New("hsm.members: every device needs a name and an addr")
	}
	if s.Role != "" && s.Role != member.Working && s.Role != member.Standby && s.Role != member.Fenced {
		return fmt.Errorf("hsm.members: %s: role must be working, standby or fenced", s.Name)
	}
	if s.TLS != nil && !whole(s.TLS) {
		return fmt.Errorf("hsm.members: %s: tls needs ca, and cert and key together", s.Name)
	}
	// What is no host:port is the path of a library.
	if _, _, err := net.SplitHostPort(s.Addr); err == nil && profile == service.Production && s.TLS == nil && !s.Private {
		return fmt.Errorf("hsm.members: the line to %s is plain: give it tls, or declare the line private: true", s.Name)
	}
	return nil
}

// Check checks the settings of the group. It does not read the directory of members: Specs does.
func (c Config) Check(profile service.Profile) error {
	var errs []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	need(c.Domain != "", "hsm.domain: name the LMK domain, for example prod-2026")
	need(len(c.Members) > 0 || c.MembersDir != "", "hsm: a domain and at least one member are needed")
	need(c.Readmit == "" || c.Readmit == member.Standby || c.Readmit == member.Working, "hsm.readmit must be standby or working")
	for _, n := range []struct {
		name  string
		value int64
	}{
		{"floor", int64(c.Floor)}, {"max_priority", int64(c.MaxPriority)}, {"max_members", int64(c.MaxMembers)},
		{"max_waiting", int64(c.MaxWaiting)}, {"depth", int64(c.Depth)}, {"probing.admit_times", int64(c.Probing.AdmitTimes)},
		{"journal.keep_files", int64(c.Journal.KeepFiles)}, {"journal.keep_bytes", c.Journal.KeepBytes}, {"journal.file_bytes", c.Journal.FileBytes},
	} {
		need(n.value >= 0, "hsm.%s must not be below zero; 0 is the default", n.name)
	}
	need(c.Probing.Every == 0 || c.Probing.Timeout <= c.Probing.Every, "hsm.probing.timeout must not be longer than hsm.probing.every")
	need(c.Probing.BackoffMax == 0 || c.Probing.BackoffMin <= c.Probing.BackoffMax, "hsm.probing.backoff_min must not be longer than backoff_max")
	need(!c.List.Shared || c.List.Retention >= service.Duration(minRetention), "hsm.list.retention must be at least %s", minRetention)
	names := map[string]bool{c.Domain: true}
	for _, d := range c.allDomains() {
		where := "hsm"
		if d.Name != c.Domain {
			where = "hsm.domains: " + d.Name
		}
		if k := d.Canary; k != nil {
			need(k.Usage != 0 && k.Algorithm != 0 && k.Cryptogram != "" && k.KCV != "", "%s: canary needs usage, algorithm, cryptogram and kcv", where)
			if profile == service.Production {
				errs = append(errs, keys.RefuseTestKey(where+".canary", k.KCV))
			}
		}
		if d.LMKCheck != "" {
			if _, err := keys.ParseKCV(string(d.LMKCheck)); err != nil {
				errs = append(errs, fmt.Errorf("%s: lmk_check: %w", where, err))
			}
		}
		if profile == service.Production {
			errs = append(errs, keys.RefuseTestKey(where+".lmk_check", d.LMKCheck))
			need(d.LMKCheck != "", "%s.lmk_check: name the check value of the LMK; a device with another one must be found out", where)
			need(len(d.Firmware) > 0 && !slices.Contains(d.Firmware, "*"), "%s.firmware: name the firmware that was approved; every other one must be found out", where)
			need(d.Canary != nil, "%s.canary: name a key of the ceremony with its check value; a device that computes wrongly must be found out", where)
		}
	}
	for _, d := range c.Domains {
		need(d.Name != "" && !names[d.Name], "hsm.domains: every further domain needs a name of its own")
		names[d.Name] = true
	}
	for _, p := range c.Places {
		errs = append(errs, checkPlace("hsm.places", p))
	}
	for _, p := range c.PrivatePlaces {
		need(!filepath.IsAbs(p), "hsm.private_places: %s is the path of a library, which has no line: name it under hsm.places", p)
		errs = append(errs, checkPlace("hsm.private_places", p))
	}
	need(c.TLS == nil || whole(c.TLS.spec()), "hsm.tls needs ca, and cert and key together")
	for _, m := range c.Members {
		need(m.Domain == "" || names[m.Domain], "hsm.members: %s: domain %s is not among those of the group", m.Name, m.Domain)
		errs = append(errs, c.CheckSpec(profile, m.Spec()))
	}
	need(profile != service.Production || c.Journal.Dir != "", "hsm.journal.dir: name a directory for the journal of HSM exchanges")
	return errors.Join(errs...)
}

// allDomains are the default domain and the others.
func (c Config) allDomains() []Domain {
	return append([]Domain{{
		Name: c.Domain, LMKCheck: c.LMKCheck, Firmware: c.Firmware, Canary: c.Canary, Floor: c.Floor, Settings: c.Settings,
	}}, c.Domains...)
}
