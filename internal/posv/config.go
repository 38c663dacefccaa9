package posv

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keyward/keyward/internal/service"
)

// Config is posv's configuration file (docs/configuration.md).
type Config struct {
	Profile  service.Profile        `yaml:"profile"`
	Log      service.LogConfig      `yaml:"log"`
	Database service.DatabaseConfig `yaml:"database"`
	// API is the listener of the registry API and the console. With tls, clients need certificates, and the name in a
	// certificate is the actor of a change.
	API service.ListenerConfig `yaml:"api"`
	// TokenFile holds the bearer token that every change needs; empty asks for none.
	TokenFile service.SecretFile `yaml:"token_file"`
	// Approvers are the common names of the certificates of the people who may approve orders. Empty means every name, which a production
	// profile refuses: services have certificates of the same authority, and two services are not two people.
	Approvers []string `yaml:"approvers"`
	// OrderKeyFile holds the Ed25519 key that signs approved orders: PEM, PKCS#8.
	OrderKeyFile service.SecretFile `yaml:"order_key_file"`
	// POSPs are the services whose HSM operation posv relays: every posp, and the key service.
	POSPs []POSPConfig `yaml:"posps"`
	// Timezone is the one of all times in the console.
	Timezone string `yaml:"timezone"`
}

// POSPConfig is one service with an HSM operation.
type POSPConfig struct {
	Name string `yaml:"name"`
	URL  string `yaml:"url"` // of hsm_operation: https://host:port
	// TLS is posv's certificate there; its name must be among hsm_operation.relays.
	TLS *service.TLSConfig `yaml:"tls,omitempty"`
}

// DefaultConfig holds the defaults of all settings that have one.
func DefaultConfig() Config {
	return Config{
		Profile: service.Production, Log: service.LogConfig{Level: "info", Format: "json"},
		Database: service.DatabaseConfig{MaxConnections: 10}, Timezone: "Asia/Shanghai",
	}
}

// Validate checks the configuration as a whole.
func (c *Config) Validate() error {
	var errs []error
	need := func(ok bool, text string) {
		if !ok {
			errs = append(errs, errors.New(text))
		}
	}
	need(c.Database.URLFile != "", "database.url_file: name the file that holds the connection string")
	need(c.API.Addr != "", "api.addr: give the address to listen on, for example 127.0.0.1:8080")
	need(c.OrderKeyFile != "", "order_key_file: name the file that holds the key that signs orders; make one with: openssl genpkey -algorithm ed25519")
	if _, err := time.LoadLocation(c.Timezone); err != nil || c.Timezone == "" {
		errs = append(errs, fmt.Errorf("timezone %q is not known; use a name like Asia/Shanghai", c.Timezone))
	}
	names := map[string]bool{}
	for _, p := range c.POSPs {
		need(p.Name != "" && !strings.ContainsAny(p.Name, "/?#% ") && !names[p.Name], "posps: each needs a name of its own, of letters, digits and hyphens")
		need(strings.HasPrefix(p.URL, "https://") && p.TLS != nil, "posps: "+p.Name+" needs an address that begins with https://, and tls: HSMs are operated with certificates only")
		names[p.Name] = true
	}
	errs = append(errs, c.API.CheckPlain(c.Profile, "api"))
	need(c.Profile != service.Production || c.API.TLS != nil || c.TokenFile != "",
		"token_file: without tls every change must carry a token in production; name the file that holds it")
	need(c.Profile != service.Production || len(c.Approvers) == 0 || len(c.Approvers) >= approversNeeded,
		"approvers: name at least two people, by the common names of their certificates")
	need(c.Profile != service.Production || c.API.TLS == nil || len(c.Approvers) > 0,
		"approvers: name the people who may approve orders, by the common names of their certificates")
	return errors.Join(errs...)
}

// approversNeeded is how many people an order needs (internal/posv/orders).
const approversNeeded = 2
