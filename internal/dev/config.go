package dev

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/keyward/keyward/internal/dev/ceremony"
	"github.com/keyward/keyward/internal/dev/pki"
	"github.com/keyward/keyward/internal/issuer"
	"github.com/keyward/keyward/internal/keyservice"
	"github.com/keyward/keyward/internal/posp"
	"github.com/keyward/keyward/internal/posp/journal"
	"github.com/keyward/keyward/internal/posv"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/migrations"
	"github.com/keyward/keyward/sim/control"
)

const (
	// hsmChannels is how many connections each service keeps to each device.
	hsmChannels = 4
	// devSignOns is far above what a terminal does, so that a test may sign the same terminal on again and again.
	devSignOns = 6000
	// issuerCode is what the simulated bank names itself in field 44.
	issuerCode = "62220000"
)

// header stands above every generated file.
const header = "# Written by \"keyward dev\" at each start: changes are lost. Public test keys: nothing here is fit for production.\n"

// parts is what the configuration files are made of.
type parts struct {
	layout layout
	offset int
	pki    pki.Files
	keys   ceremony.Keys
	// hostTimeout is posp's patience with the bank, 0 for its default.
	hostTimeout time.Duration
}

// writeConfigs writes one file per process, from the types that the processes read, so that a renamed setting does not compile.
func (p parts) writeConfigs() error {
	for name, config := range map[string]any{
		"sim": p.sim(), "keys": p.keyService(), "posp": p.posp(), "posv": p.posv(), "issuer": p.issuer(),
	} {
		text, err := yaml.Marshal(config)
		if err != nil {
			return fmt.Errorf("configuration of %s: %w", name, err)
		}
		if err := writeFile(p.layout.config(name), append([]byte(header), text...)); err != nil {
			return err
		}
	}
	return nil
}

func (p parts) log() service.LogConfig { return service.LogConfig{Level: "info", Format: "text"} }

func (p parts) listen(port int) service.ListenerConfig {
	return service.ListenerConfig{Addr: at(port, p.offset), Private: true}
}

func (p parts) database(role string) service.SecretFile {
	return service.SecretFile(p.layout.databaseURL(role))
}

func (p parts) client(name string) service.TLSConfig {
	return service.TLSConfig{Cert: p.pki.Clients[name].Cert, Key: service.SecretFile(p.pki.Clients[name].Key), CA: p.pki.CA}
}

// group is one group of HSM simulators: those behind the ports from first on.
func (p parts) group(base service.HSMConfig, first int) service.HSMConfig {
	base.Domain, base.LMKCheck = ceremony.Domain, ceremony.LMKCheck
	for i := range hsmCount {
		base.Members = append(base.Members, service.HSMMember{
			Name: fmt.Sprintf("hsm%d", i+1), Addr: at(first+i, p.offset), Channels: hsmChannels,
		})
	}
	return base
}

func (p parts) posp() posp.Config {
	c := posp.DefaultConfig()
	c.Profile, c.Instance, c.Log = service.Dev, "posp-1", p.log()
	c.Database.URLFile = p.database(migrations.RolePOSP)
	c.Terminals = []service.ListenerConfig{p.listen(portTerminals)}
	c.Operations = p.listen(portOperations)
	c.KeyService = posp.KeyServiceAddr{URL: "https://" + at(portKeys, p.offset), TLS: p.client("posp")}
	c.HSM = p.group(c.HSM, portHSM)
	c.Hosts = []posp.HostConfig{{
		Name: "bank", Dialect: "core", Addr: at(portBank, p.offset), Private: true, ZPK: keyConfig(p.keys.ZPK), ZAK: keyConfig(p.keys.ZAK),
	}}
	c.SealKey = keyConfig(p.keys.Seal)
	c.Journal = posp.JournalConfig{Dir: p.layout.path("state", "spool"), Ack: journal.AckDatabase}
	c.Flow.SignOnsPerMinute = devSignOns
	if p.hostTimeout > 0 {
		// The chain of time-outs must stay one: host > HSM > one command.
		c.Flow.HostTimeout, c.Flow.HSMTimeout = service.Duration(p.hostTimeout), service.Duration(p.hostTimeout*3/4)
		c.HSM.Timeout = service.Duration(p.hostTimeout / 2)
	}
	return c
}

func keyConfig(k keys.Wrapped) posp.KeyConfig {
	return posp.KeyConfig{Algorithm: k.Algorithm, Domain: k.Domain, Version: k.Version, Cryptogram: k.Cryptogram, KCV: k.KCV}
}

func (p parts) keyService() keyservice.Config {
	c := keyservice.DefaultConfig()
	c.Profile, c.Log = service.Dev, p.log()
	c.Database.URLFile = p.database(migrations.RoleKeys)
	c.Listen = service.ListenerConfig{Addr: at(portKeys, p.offset), TLS: &service.TLSConfig{
		Cert: p.pki.Server.Cert, Key: service.SecretFile(p.pki.Server.Key), CA: p.pki.CA,
	}}
	c.HSM = p.group(c.HSM, portIssuing)
	c.OrderKey = p.pki.OrderPublic
	return c
}

func (p parts) sim() control.Config {
	c := control.Config{
		Profile: service.Dev, Log: p.log(), Listen: at(portControl, p.offset),
		Bank: control.Bank{
			Addr: at(portBank, p.offset), StateFile: p.layout.path("state", "bank.json"), IssuerCode: issuerCode,
			ZPK: control.Key{Value: ceremony.ClearZPK}, ZAK: control.Key{Value: ceremony.ClearZAK},
		},
		Cards:        control.Cards{Dir: p.layout.path("state", "cards"), Refill: true},
		Terminals:    control.Terminals{StateDir: p.layout.path("state", "terminals"), POSP: at(portTerminals, p.offset)},
		TransportKey: control.Key{Value: ceremony.ClearTransport},
	}
	for i := range hsmCount {
		c.HSMs = append(c.HSMs, control.HSM{
			Name: fmt.Sprintf("hsm%d", i+1), Serial: fmt.Sprintf("SIM%05d", i+1), Ports: []control.Port{
				{Name: "online", Addr: at(portHSM+i, p.offset), Group: "online"},
				{Name: "issuing", Addr: at(portIssuing+i, p.offset), Group: "issuing"},
			},
		})
	}
	return c
}

// program is the path of one of Keyward's programs: they are built into one directory.
func program(binDir, name string) string { return filepath.Join(binDir, name) }

func (p parts) posv() posv.Config {
	c := posv.DefaultConfig()
	c.Profile, c.Log = service.Dev, p.log()
	c.Database.URLFile = p.database(migrations.RolePOSV)
	c.API = p.listen(portPOSV)
	c.OrderKeyFile = service.SecretFile(p.pki.OrderKey)
	return c
}

func (p parts) issuer() issuer.Config {
	c := issuer.DefaultConfig()
	c.Profile, c.Log = service.Dev, p.log()
	c.Database.URLFile = p.database(migrations.RoleIssuer)
	c.Listen = p.listen(portIssuer)
	c.POSP = issuer.Peer{URL: "http://" + at(portOperations, p.offset), Private: true}
	c.Registry = issuer.Peer{URL: "http://" + at(portPOSV, p.offset), Private: true}
	c.Reader = issuer.ReaderConfig{Driver: issuer.DriverSim, URL: "http://" + at(portControl, p.offset)}
	return c
}
