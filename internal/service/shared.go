package service

import "fmt"

// LogConfig sets the log.
type LogConfig struct {
	Level  string `yaml:"level"`  // debug, info, warn, error
	Format string `yaml:"format"` // text, json
}

// DatabaseConfig tells how PostgreSQL is reached.
type DatabaseConfig struct {
	URLFile        SecretFile `yaml:"url_file"` // file with the connection string of the service's role
	MaxConnections int32      `yaml:"max_connections"`
}

// ListenerConfig is one address. Without TLS it must be declared private in a production profile.
type ListenerConfig struct {
	Addr    string     `yaml:"addr"`
	Private bool       `yaml:"private"` // the line is physically or otherwise protected; two people should have said so
	TLS     *TLSConfig `yaml:"tls,omitempty"`
}

// CheckPlain refuses a plain listener that nobody declared private, in the production profile only. what names the setting. A listener
// without an address is switched off and passes.
func (l ListenerConfig) CheckPlain(profile Profile, what string) error {
	if profile != Production || l.Addr == "" || l.TLS != nil || l.Private {
		return nil
	}
	return fmt.Errorf("%s (%s) is plain TCP: give it tls, or declare the line private: true", what, l.Addr)
}

// TLSConfig names the PEM files of one side of a mutually authenticated connection.
type TLSConfig struct {
	Cert string     `yaml:"cert"`
	Key  SecretFile `yaml:"key"`
	CA   string     `yaml:"ca"` // the authorities whose certificates the other side may have
}
