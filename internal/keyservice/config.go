package keyservice

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/keyward/keyward/internal/hsmconfig"
	"github.com/keyward/keyward/internal/order"
	"github.com/keyward/keyward/internal/service"
)

// Config is the key service's configuration file.
type Config struct {
	Profile service.Profile `yaml:"profile"`
	// Instance is the stable name of this key service in the shared member list and the journal of exchanges.
	Instance string                 `yaml:"instance"`
	Log      service.LogConfig      `yaml:"log"`
	Database service.DatabaseConfig `yaml:"database"`
	// Listen is the one listener: HTTPS, and only for clients with a certificate of listen.tls.ca, in every profile.
	Listen service.ListenerConfig `yaml:"listen"`
	// Clients are the common names of the certificates that may ask: as a rule posp alone. Empty means every certificate of listen.tls.ca, which
	// a production profile refuses: the same authority signs certificates for people and for other services.
	Clients []string `yaml:"clients"`
	// HSM is the issuing group. Its devices should let nobody else in.
	HSM hsmconfig.Config `yaml:"hsm"`
	// HSMOperation says who may operate the issuing group, on the same listener.
	HSMOperation hsmconfig.Operators `yaml:"hsm_operation"`
	// Rewrap is for moving keys from one LMK domain to another (docs/hsm-rewrap.md).
	Rewrap RewrapConfig `yaml:"rewrap"`
	// OrderKey is the path of the registry's public key (PEM), with which orders are signed.
	OrderKey string `yaml:"order_key"`
}

// RewrapConfig says who may move keys between LMK domains, and with which devices.
type RewrapConfig struct {
	// Operators are the common names of the certificates of people who may start, switch and retire. Empty: nobody.
	Operators []string `yaml:"operators"`
	// HSM is a group made for migration, whose devices hold both domains between them and allow what the method needs. Left out: the issuing
	// group, for keys that move inside one device.
	HSM *hsmconfig.Config `yaml:"hsm,omitempty"`
}

// check checks the part as the profile wants it.
func (c RewrapConfig) check(profile service.Profile) error {
	if c.HSM == nil {
		return nil
	}
	if err := c.HSM.Check(profile); err != nil {
		return fmt.Errorf("rewrap: %w", err)
	}
	if c.HSM.List.Shared {
		return errors.New("rewrap.hsm.list.shared: the group for migration is used by one service and lives as long as the move: set it to false")
	}
	return nil
}

// DefaultConfig holds the defaults of all settings that have one.
func DefaultConfig() Config {
	return Config{
		Profile: service.Production, Instance: "keys-1", Log: service.LogConfig{Level: "info", Format: "json"},
		Database: service.DatabaseConfig{MaxConnections: 8}, HSM: hsmconfig.Default(),
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
	need(c.Instance != "", "instance: give this key service a name that it keeps, for example keys-1")
	need(c.Database.URLFile != "", "database.url_file: name the file that holds the connection string")
	need(c.Listen.Addr != "", "listen.addr: an address is needed, for example 127.0.0.1:8083")
	need(c.Listen.TLS != nil, "listen.tls: cert, key and ca are needed: the key service serves clients with certificates only")
	errs = append(errs, c.HSM.Check(c.Profile))
	need(c.OrderKey != "", "order_key: name the file with the registry's public key")
	errs = append(errs, c.Rewrap.check(c.Profile))
	// A client asks for card keys on orders; with these rights as well it could choose the devices, or move the keys (P1).
	for _, right := range []struct {
		where string
		names []string
	}{{"hsm_operation.operators", c.HSMOperation.Operators}, {"hsm_operation.relays", c.HSMOperation.Relays}, {"rewrap.operators", c.Rewrap.Operators}} {
		for _, name := range right.names {
			need(name != "" && !slices.Contains(c.Clients, name), fmt.Sprintf("%s: %q is empty or stands in clients too: name people there, and as a relay posv alone", right.where, name))
		}
	}
	if c.Profile == service.Production {
		need(len(c.Clients) > 0, "clients: name whose certificates may ask, for example [posp]")
	}
	return errors.Join(errs...)
}

// maxKeyFile bounds the public key file, which has about 120 bytes.
const maxKeyFile = 16 << 10

// orderKey reads the registry's public key.
func (c *Config) orderKey() (ed25519.PublicKey, error) {
	info, err := os.Stat(c.OrderKey)
	if err != nil {
		return nil, fmt.Errorf("order_key: %w", err)
	}
	if info.Size() > maxKeyFile {
		return nil, fmt.Errorf("order_key: %s has more than %d bytes", c.OrderKey, maxKeyFile)
	}
	text, err := os.ReadFile(c.OrderKey)
	if err != nil {
		return nil, fmt.Errorf("order_key: %w", err)
	}
	return order.ParsePublicKey(text)
}
