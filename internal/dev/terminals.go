package dev

import (
	"slices"

	"github.com/keyward/keyward/internal/posp"
	"github.com/keyward/keyward/internal/posp/access"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/sim/control"
)

const (
	// devMessages is far above what a terminal sends, so that a load generator may use few of them.
	devMessages = 100_000
	// devConnections leaves room for tests with tens of thousands of connections from one address.
	devConnections = 60_000
)

// others are the terminals of design.md §6 beside the first ones: they get certificates too, whether they exist or not.
var others = [][2]int{{201, 210}, {301, 310}, {401, 410}}

// certified are the numbers of the terminals that get certificates.
func certified(terminals int, traffic bool) []string {
	var list []string
	for _, n := range wanted(terminals, traffic) {
		list = append(list, terminalID(n))
	}
	for _, o := range others {
		for n := o[0]; n <= o[1]; n++ {
			if id := terminalID(n); !slices.Contains(list, id) {
				list = append(list, id)
			}
		}
	}
	return list
}

// terminalListeners are the plain listener and the one with TLS, on which a certificate speaks for its terminal only.
func (p parts) terminalListeners() []posp.TerminalListener {
	limits := posp.AccessLimits{MaxConnections: devConnections, MaxConnectionsPerAddress: devConnections}
	return []posp.TerminalListener{
		{Addr: at(portTerminals, p.offset), Private: true, Limits: limits},
		{Addr: at(portTLS, p.offset), Limits: limits, TLS: &posp.TerminalTLS{
			Cert: p.terminals.Server.Cert, Key: service.SecretFile(p.terminals.Server.Key), CA: p.terminals.CA,
			ClientCertificate: access.Required, BindTerminal: true, Revoked: []string{p.terminals.Revoked},
		}},
	}
}

// terminalFleet are the simulated terminals: both ways to posp.
func (p parts) terminalFleet() control.Terminals {
	return control.Terminals{
		StateDir: p.layout.path("state", "terminals"), POSP: at(portTerminals, p.offset),
		TLS: control.TerminalTLS{Addr: at(portTLS, p.offset), CA: p.terminals.CA, Dir: p.terminals.Dir},
	}
}
