package posp

import (
	"errors"
	"fmt"
)

// HostConfig is one downstream host.
type HostConfig struct {
	Name    string `yaml:"name"`
	Dialect string `yaml:"dialect"` // core
	// Addr is the one address of a host with one connection; Lines are several.
	Addr  string       `yaml:"addr"`
	Lines []LineConfig `yaml:"lines"`
	// MaxInFlight bounds the exchanges under way; 0: pool.DefaultInFlight.
	MaxInFlight int `yaml:"max_in_flight"`
	// Codes say for some of the host's response codes what the terminal is told.
	Codes   map[string]string `yaml:"codes"`
	Private bool              `yaml:"private"`
	ZPK     KeyConfig         `yaml:"zpk"`
	ZAK     KeyConfig         `yaml:"zak"`
}

// LineConfig is one address of a host.
type LineConfig struct {
	Addr        string   `yaml:"addr"`
	Role        LineRole `yaml:"role"`
	Connections int      `yaml:"connections"` // at once, in turn; 0: 1
}

// LineRole says when a line is used.
type LineRole string

// The roles. Primary lines take turns; secondary ones do while no primary is ready.
const (
	PrimaryLine   LineRole = "primary" // also when empty
	SecondaryLine LineRole = "secondary"
)

// maxConnections bounds the connections of one line: a bank that needs more has another way to scale.
const maxConnections = 32

// Reach gives one entry for each connection to make, primary lines first as far as the roles go.
func (h HostConfig) Reach() (primary, secondary []string) {
	lines := h.Lines
	if len(lines) == 0 {
		lines = []LineConfig{{Addr: h.Addr}}
	}
	for _, l := range lines {
		for range max(l.Connections, 1) {
			if l.Role == SecondaryLine {
				secondary = append(secondary, l.Addr)
			} else {
				primary = append(primary, l.Addr)
			}
		}
	}
	return primary, secondary
}

// check refuses settings that contradict each other or lead nowhere.
func (h HostConfig) check() error {
	var errs []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("hosts: %s: %w", h.Name, fmt.Errorf(format, args...)))
		}
	}
	need(h.Addr != "" || len(h.Lines) > 0, "addr is missing: give host:port, or lines")
	need(h.Addr == "" || len(h.Lines) == 0, "addr and lines are both given: with lines leave addr out")
	need(h.MaxInFlight >= 0, "max_in_flight is below zero: leave it out, or give a number")
	seen := map[string]bool{}
	for i, l := range h.Lines {
		need(l.Addr != "", "lines[%d].addr is missing: give host:port", i)
		need(!seen[l.Addr], "lines[%d].addr %s stands there twice: for several connections to it write connections", i, l.Addr)
		need(l.Role == "" || l.Role == PrimaryLine || l.Role == SecondaryLine, "lines[%d].role %q is not known: write primary or secondary", i, l.Role)
		need(l.Connections >= 0 && l.Connections <= maxConnections, "lines[%d].connections must be 1 to %d", i, maxConnections)
		seen[l.Addr] = true
	}
	primary, _ := h.Reach()
	need(len(primary) > 0, "all lines are secondary: one must be primary")
	return errors.Join(errs...)
}
