package issuer

import (
	"errors"
	"fmt"
	"net/url"

	"github.com/keyward/keyward/internal/service"
)

// Config is the issuer's configuration file.
type Config struct {
	Profile  service.Profile        `yaml:"profile"`
	Log      service.LogConfig      `yaml:"log"`
	Database service.DatabaseConfig `yaml:"database"`
	Listen   service.ListenerConfig `yaml:"listen"`
	// POSP is posp's operations API, which relays to the key service.
	POSP Peer `yaml:"posp"`
	// Registry is posv's API.
	Registry Peer         `yaml:"registry"`
	Reader   ReaderConfig `yaml:"reader"`
}

// Peer is another service that is called over HTTP. Without TLS it must be declared private in a production profile.
type Peer struct {
	URL     string             `yaml:"url"`
	Private bool               `yaml:"private"`
	TLS     *service.TLSConfig `yaml:"tls,omitempty"`
	// TokenFile holds the token that the other service asks for; empty when it asks for none.
	TokenFile service.SecretFile `yaml:"token_file"`
}

// ReaderConfig chooses the card reader.
type ReaderConfig struct {
	Driver string `yaml:"driver"` // sim
	URL    string `yaml:"url"`    // sim: the simulators' control API
}

// DriverSim is the reader of the simulators; a production profile refuses it.
const DriverSim = "sim"

// DefaultConfig holds the defaults of all settings that have one.
func DefaultConfig() Config {
	return Config{
		Profile: service.Production, Log: service.LogConfig{Level: "info", Format: "json"},
		Database: service.DatabaseConfig{MaxConnections: maxRuns + 4},
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
	production := c.Profile == service.Production
	need(c.Database.URLFile != "", "database.url_file: name the file that holds the connection string")
	need(c.Database.MaxConnections > maxRuns, "database.max_connections: must be above %d, because every run holds one", maxRuns)
	need(c.Listen.Addr != "", "listen.addr: an address is needed, for example 127.0.0.1:8081")
	for name, p := range map[string]Peer{"posp": c.POSP, "registry": c.Registry} {
		u, err := url.Parse(p.URL)
		need(err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https"), "%s.url: want http://host:port or https://host:port", name)
		need((p.TLS != nil) == (err == nil && u.Scheme == "https"), "%s: https needs tls, and http must not have it", name)
		need(!production || p.TLS != nil || p.Private, "%s is plain HTTP: give it tls, or declare the line private: true", name)
	}
	need(c.Reader.Driver == DriverSim, "reader.driver: %q is not known; known is: %s", c.Reader.Driver, DriverSim)
	need(c.Reader.Driver != DriverSim || c.Reader.URL != "", "reader.url: the address of the simulators' control API is needed, for example http://127.0.0.1:8090")
	need(!production || c.Reader.Driver != DriverSim, "reader.driver: profile production refuses simulated cards")
	errs = append(errs, c.Listen.CheckPlain(c.Profile, "listen"))
	return errors.Join(errs...)
}
