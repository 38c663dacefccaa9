package posp

import (
	"errors"
	"fmt"
	"time"

	"github.com/keyward/keyward/internal/hsmconfig"
	"github.com/keyward/keyward/internal/posp/journal"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/iso/unionpay"
	"github.com/keyward/keyward/iso/unionpay/profile"
	"github.com/keyward/keyward/keys"
)

// Config is posp's configuration file (docs/configuration.md).
type Config struct {
	Profile  service.Profile        `yaml:"profile"`
	Instance string                 `yaml:"instance"` // stable name of this posp; its spool and its reversals belong to it
	Log      service.LogConfig      `yaml:"log"`
	Database service.DatabaseConfig `yaml:"database"`
	// Terminals are the listeners for POS terminals.
	Terminals []TerminalListener `yaml:"terminals"`
	// Operations is the HTTP listener for operators and for the issuer's requests.
	Operations service.ListenerConfig `yaml:"operations"`
	KeyService KeyServiceAddr         `yaml:"key_service"`
	HSM        hsmconfig.Config       `yaml:"hsm"`
	// HSMOperation is the HTTPS listener for the operators of HSMs.
	HSMOperation hsmconfig.Operation `yaml:"hsm_operation"`
	Hosts        []HostConfig        `yaml:"hosts"`
	Routing      RoutingConfig       `yaml:"routing"`
	SealKey      KeyConfig           `yaml:"seal_key"`
	Journal      JournalConfig       `yaml:"journal"`
	Flow         FlowConfig          `yaml:"flow"`
	// Profiles are families of terminals beside the built-in ones (docs/profiles.md).
	Profiles []profile.Profile `yaml:"profiles"`
}

// KeyServiceAddr tells where the key service is; posp relays card issuing to it and cannot do it itself (P1).
type KeyServiceAddr struct {
	URL string            `yaml:"url"`
	TLS service.TLSConfig `yaml:"tls"`
}

// RoutingConfig says who may change the rules that choose a host (docs/routing.md). The rules themselves are in the database.
type RoutingConfig struct {
	// Operators are the common names of the certificates of those who may; empty: nobody.
	Operators []string `yaml:"operators"`
}

// KeyConfig is a key as configured: a cryptogram under an LMK, which is worthless outside its HSM.
type KeyConfig struct {
	Algorithm  keys.Algorithm `yaml:"algorithm"`
	Domain     string         `yaml:"domain"`
	Version    int            `yaml:"version"`
	Cryptogram string         `yaml:"cryptogram"`
	KCV        keys.KCV       `yaml:"kcv"`
	// Twins are the same key in other LMK domains, for the time in which keys move between them ("posp hsm rewrap key" makes them).
	Twins []TwinConfig `yaml:"twins"`
}

// TwinConfig is a configured key in another LMK domain.
type TwinConfig struct {
	Domain     string   `yaml:"domain"`
	Cryptogram string   `yaml:"cryptogram"`
	KCV        keys.KCV `yaml:"kcv"` // as that of the key; production needs it
}

// Key gives the key for a usage.
func (k KeyConfig) Key(u keys.Usage) keys.Wrapped {
	return keys.Wrapped{Usage: u, Algorithm: k.Algorithm, Version: k.Version, Domain: k.Domain, Cryptogram: k.Cryptogram, KCV: k.KCV}
}

// Keys gives the key and its twins.
func (k KeyConfig) Keys(u keys.Usage) keys.Twins {
	all := keys.Twins{k.Key(u)}
	for _, t := range k.Twins {
		twin := all[0]
		twin.Domain, twin.Cryptogram = t.Domain, t.Cryptogram
		all = append(all, twin)
	}
	return all
}

// check refuses twins that are none.
func (k KeyConfig) check(where string) error {
	seen := map[string]bool{k.Domain: true}
	for _, t := range k.Twins {
		if t.Domain == "" || t.Cryptogram == "" || seen[t.Domain] {
			return fmt.Errorf("%s.twins: each twin needs a cryptogram and an LMK domain of its own, other than that of the key", where)
		}
		seen[t.Domain] = true
		if t.KCV != "" && k.KCV != "" && !t.KCV.Matches(k.KCV) {
			return fmt.Errorf("%s.twins: the twin in %s has check value %s, the key %s: these are two keys; take the twin from posp hsm rewrap key", where, t.Domain, t.KCV, k.KCV)
		}
	}
	return nil
}

// JournalConfig sets the journal (design.md §4).
type JournalConfig struct {
	Dir string          `yaml:"dir"`
	Ack journal.AckMode `yaml:"ack"` // database, local
}

// FlowConfig sets how messages are handled. The time-outs form a chain: terminal (60 s) > total > host > HSM.
type FlowConfig struct {
	TotalTimeout  service.Duration `yaml:"total_timeout"`
	HostTimeout   service.Duration `yaml:"host_timeout"`
	HSMTimeout    service.Duration `yaml:"hsm_timeout"`
	RecordTimeout service.Duration `yaml:"record_timeout"` // for one durable journal record
	Timezone      string           `yaml:"timezone"`
	AcquirerID    string           `yaml:"acquirer_id"` // field 32 of answers, at most 11 digits
	MaxAmount     int64            `yaml:"max_amount"`  // in fen
	// SignOnsPerMinute bounds the fresh sign-ons of one terminal.
	SignOnsPerMinute int `yaml:"sign_ons_per_minute"`
	// MessagesPerSecond bounds the messages of one terminal from one address, on average.
	MessagesPerSecond int `yaml:"messages_per_second"`
	// PINsPerCard and PINsPerTerminal bound the PINs that are tried with one card, and at one terminal, in a minute.
	PINsPerCard     int `yaml:"pins_per_card"`
	PINsPerTerminal int `yaml:"pins_per_terminal"`
	// AllowCallerID accepts the caller-id block of dial-up concentrators (P12).
	AllowCallerID bool `yaml:"allow_caller_id"`

	location     *time.Location
	parseOptions []unionpay.Option
}

// terminalPatience is how long a terminal waits for an answer (design.md §3).
const terminalPatience = 60 * time.Second

// DefaultConfig holds the defaults of all settings that have one.
func DefaultConfig() Config {
	return Config{
		Profile: service.Production,
		Log:     service.LogConfig{Level: "info", Format: "json"},
		Database: service.DatabaseConfig{
			MaxConnections: 10,
		},
		HSM:     hsmconfig.Default(),
		Journal: JournalConfig{Ack: journal.AckDatabase},
		Flow: FlowConfig{
			TotalTimeout: service.Duration(50 * time.Second), HostTimeout: service.Duration(30 * time.Second),
			HSMTimeout: service.Duration(5 * time.Second), RecordTimeout: service.Duration(5 * time.Second),
			Timezone: "Asia/Shanghai", AcquirerID: "00010000", MaxAmount: 999_999_999_999, SignOnsPerMinute: 30, MessagesPerSecond: 20,
			PINsPerCard: 30, PINsPerTerminal: 120,
		},
	}
}

// Validate checks the configuration as a whole.
func (c *Config) Validate() error {
	var errs []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	need(c.Instance != "", "instance: give this posp a name that it keeps, for example posp-1")
	need(c.Database.URLFile != "", "database.url_file: name the file that holds the connection string")
	need(len(c.Terminals) > 0, "terminals: at least one listener is needed")
	for i, l := range c.Terminals {
		errs = append(errs, l.check(fmt.Sprintf("terminals[%d]", i)))
	}
	need(c.Journal.Dir != "", "journal.dir: name a directory of its own for the spool")
	errs = append(errs, c.HSM.Check(c.Profile), c.HSMOperation.Check())
	need(len(c.Hosts) > 0, "hosts: at least one is needed")
	for _, h := range c.Hosts {
		errs = append(errs, h.check())
	}
	need(c.SealKey.Cryptogram != "", "seal_key: the key that seals card data at rest is needed")
	for _, k := range c.placedKeys() {
		errs = append(errs, k.key.check(k.place))
	}
	_, err := profile.NewList(c.Profiles)
	errs = append(errs, err, c.Flow.complete(), c.checkProduction())
	return errors.Join(errs...)
}

// complete checks the flow settings and prepares what is derived from them.
func (f *FlowConfig) complete() error {
	var errs []error
	chain := []struct {
		name string
		d    time.Duration
	}{
		{"a terminal's patience (60s)", terminalPatience}, {"flow.total_timeout", f.TotalTimeout.Std()},
		{"flow.host_timeout", f.HostTimeout.Std()}, {"flow.hsm_timeout", f.HSMTimeout.Std()},
	}
	for i := 1; i < len(chain); i++ {
		if chain[i].d <= 0 || chain[i].d >= chain[i-1].d {
			errs = append(errs, fmt.Errorf("%s is %s: it must be above zero and shorter than %s (%s)", chain[i].name, chain[i].d, chain[i-1].name, chain[i-1].d))
		}
	}
	if f.RecordTimeout <= 0 {
		errs = append(errs, errors.New("flow.record_timeout must be above zero"))
	}
	if f.MaxAmount <= 0 || f.SignOnsPerMinute <= 0 {
		errs = append(errs, errors.New("flow.max_amount and flow.sign_ons_per_minute must be above zero"))
	}
	if f.PINsPerCard <= 0 || f.PINsPerTerminal <= 0 {
		errs = append(errs, errors.New("flow.pins_per_card and flow.pins_per_terminal must be above zero"))
	}
	if f.MessagesPerSecond <= 0 {
		errs = append(errs, errors.New("flow.messages_per_second must be above zero"))
	}
	if n := len(f.AcquirerID); n < 1 || n > 11 {
		errs = append(errs, errors.New("flow.acquirer_id must have 1 to 11 digits"))
	}
	var err error
	if f.location, err = time.LoadLocation(f.Timezone); err != nil {
		errs = append(errs, fmt.Errorf("flow.timezone %q is not known; use a name like Asia/Shanghai", f.Timezone))
	}
	f.parseOptions = nil
	if f.AllowCallerID {
		f.parseOptions = []unionpay.Option{unionpay.AllowCallerID}
	}
	return errors.Join(errs...)
}

// checkProduction refuses what a production profile must not have: plain lines that nobody declared private, and public test keys.
func (c *Config) checkProduction() error {
	if c.Profile != service.Production {
		return nil
	}
	var errs []error
	for i, l := range c.Terminals {
		errs = append(errs, l.CheckPlain(c.Profile, fmt.Sprintf("terminals: listener %d", i+1)))
	}
	errs = append(errs, c.Operations.CheckPlain(c.Profile, "operations"))
	for _, h := range c.Hosts {
		if !h.Private {
			errs = append(errs, fmt.Errorf("hosts: the line to %s is plain TCP: declare it private: true", h.Name))
		}
		for _, k := range []KeyConfig{h.ZPK, h.ZAK} {
			errs = append(errs, keys.RefuseTestKey("key of host "+h.Name, k.KCV))
		}
	}
	errs = append(errs, keys.RefuseTestKey("seal_key", c.SealKey.KCV))
	for _, k := range c.placedKeys() {
		for _, t := range k.key.Twins {
			if t.KCV == "" {
				errs = append(errs, fmt.Errorf("%s.twins: name the check value of the twin in %s, as posp hsm rewrap key gives it", k.place, t.Domain))
			}
			errs = append(errs, keys.RefuseTestKey(k.place+".twins in "+t.Domain, t.KCV))
		}
	}
	return errors.Join(errs...)
}
