package dev

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/keyward/keyward/internal/dev/ceremony"
	"github.com/keyward/keyward/internal/dev/pki"
	"github.com/keyward/keyward/internal/hsmconfig"
	"github.com/keyward/keyward/internal/hsmops"
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
	// devPINs lets tests and traffic use the few accounts of the bank simulator as often as they like.
	devPINs = 600_000
	// devFirmware is what the simulators say; the trailing * lets an upgrade in.
	devFirmware = "0001-*"
	// issuerCode is what the simulated bank names itself in field 44.
	issuerCode = "62220000"
)

// devOperators may operate HSMs: the holder of the operator's certificate, and whoever acts through posv without a name.
var devOperators = []string{operatorName, "dev"}

// header stands above every generated file.
const header = "# Written by \"keyward dev\" at each start: changes are lost. Public test keys: nothing here is fit for production.\n"

// parts is what the configuration files are made of.
type parts struct {
	layout layout
	offset int
	pki    pki.Files
	// terminals are the certificates of terminals.
	terminals pki.Terminals
	keys      ceremony.Keys
	// hostTimeout is posp's patience with the bank, 0 for its default.
	hostTimeout time.Duration
}

// writeConfigs writes one file per process, from the types that the processes read, so that a renamed setting does not compile.
func (p parts) writeConfigs() error {
	for name, config := range map[string]any{
		"sim": p.sim(), "keys": p.keyService(), "posp": p.posp(), "posv": p.posv(), "issuer": p.issuer(),
		// For "posp hsm".
		"hsm": p.operator(portOperation), "hsm-issuing": p.operator(portKeys),
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

// server is a service's side of mutual TLS.
func (p parts) server(files pki.Pair) *service.TLSConfig {
	return &service.TLSConfig{Cert: files.Cert, Key: service.SecretFile(files.Key), CA: p.pki.CA}
}

// group is one group of HSM simulators: those behind the ports from first on. Its second domain is the key-block LMK of the same devices,
// without members until somebody adds one.
func (p parts) group(name string, first int) hsmconfig.Config {
	c := hsmconfig.Default()
	c.Domain, c.LMKCheck, c.Firmware = ceremony.Domain, ceremony.LMKCheck, []string{devFirmware}
	c.Canary = canary(p.keys.Seal)
	c.Domains = []hsmconfig.Domain{p.blockDomain()}
	c.Journal.Dir = p.layout.path("state", "hsm-journal-"+name)
	c.Drills.Dir = p.layout.path("state", "hsm-drills-"+name)
	c.List.LocalCopy = p.layout.path("state", "hsm-list-"+name+".json")
	for i := range hsmCount {
		c.Members = append(c.Members, hsmconfig.Member{Name: fmt.Sprintf("hsm%d", i+1), Addr: at(first+i, p.offset), Channels: hsmChannels})
	}
	return c
}

// canary makes a key of the ceremony the one of the known-answer test.
func canary(k keys.Wrapped) *hsmconfig.Canary {
	return &hsmconfig.Canary{Usage: k.Usage, Algorithm: k.Algorithm, Cryptogram: k.Cryptogram, KCV: k.KCV}
}

// blockDomain is the LMK domain of the simulators' key-block LMK.
func (p parts) blockDomain() hsmconfig.Domain {
	return hsmconfig.Domain{
		Name: ceremony.BlockDomain, LMKCheck: ceremony.BlockLMKCheck, Firmware: []string{devFirmware}, Canary: canary(p.keys.BlockSeal),
		Settings: map[string]string{"lmk": "keyblock", "lmk_id": "01"},
	}
}

// migration is the group that moves keys from the variant LMK to the key-block one: hsm1, which holds both, on a port that allows it. One
// member stands for each LMK.
func (p parts) migration() *hsmconfig.Config {
	c := hsmconfig.Default()
	c.List.Shared = false
	c.Domain, c.LMKCheck = ceremony.Domain, ceremony.LMKCheck
	to := p.blockDomain()
	to.Settings["old_domain"] = ceremony.Domain
	c.Domains = []hsmconfig.Domain{to}
	c.Members = []hsmconfig.Member{
		{Name: "hsm1-variant", Addr: at(portMigration, p.offset), Channels: 1}, {Name: "hsm1-block", Domain: ceremony.BlockDomain, Addr: at(portMigration, p.offset), Channels: 1},
	}
	return &c
}

func (p parts) posp() posp.Config {
	c := posp.DefaultConfig()
	c.Profile, c.Instance, c.Log = service.Dev, "posp-1", p.log()
	c.Database.URLFile = p.database(migrations.RolePOSP)
	c.Terminals = p.terminalListeners()
	c.Operations = p.listen(portOperations)
	c.KeyService = posp.KeyServiceAddr{URL: "https://" + at(portKeys, p.offset), TLS: p.client("posp")}
	c.HSM = p.group("online", portHSM)
	c.HSMOperation = hsmconfig.Operation{
		Addr: at(portOperation, p.offset), TLS: p.server(p.pki.Operation), Operators: devOperators, Relays: []string{"posv"},
	}
	c.Hosts = []posp.HostConfig{{
		Name: "bank", Dialect: "core", Addr: at(portBank, p.offset), Private: true, ZPK: keyConfig(p.keys.ZPK), ZAK: keyConfig(p.keys.ZAK),
	}}
	c.Routing.Operators = devOperators
	c.SealKey = keyConfig(p.keys.Seal)
	c.Journal = posp.JournalConfig{Dir: p.layout.path("state", "spool"), Ack: journal.AckDatabase}
	c.Flow.PINsPerCard, c.Flow.PINsPerTerminal = devPINs, devPINs
	c.Flow.SignOnsPerMinute, c.Flow.MessagesPerSecond, c.Flow.AllowCallerID = devSignOns, devMessages, true
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
	c.Listen = service.ListenerConfig{Addr: at(portKeys, p.offset), TLS: p.server(p.pki.Server)}
	c.HSM = p.group("issuing", portIssuing)
	c.HSMOperation = hsmconfig.Operators{Operators: devOperators, Relays: []string{"posv"}}
	c.Rewrap = keyservice.RewrapConfig{Operators: devOperators, HSM: p.migration()}
	c.OrderKey = p.pki.OrderPublic
	return c
}

// operator is the client file of the operator of HSMs.
func (p parts) operator(port int) hsmops.ClientConfig {
	c := p.client(operatorName)
	return hsmops.ClientConfig{URL: "https://" + at(port, p.offset), Cert: c.Cert, Key: string(c.Key), CA: c.CA}
}

func (p parts) sim() control.Config {
	c := control.Config{
		Profile: service.Dev, Log: p.log(), Listen: at(portControl, p.offset),
		Bank: control.Bank{
			Addr: at(portBank, p.offset), StateFile: p.layout.path("state", "bank.json"), IssuerCode: issuerCode,
			ZPK: control.Key{Value: ceremony.ClearZPK}, ZAK: control.Key{Value: ceremony.ClearZAK},
		},
		Cards:        control.Cards{Dir: p.layout.path("state", "cards"), Refill: true},
		Terminals:    p.terminalFleet(),
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
	c.HSMs[0].Ports = append(c.HSMs[0].Ports, control.Port{Name: "migration", Addr: at(portMigration, p.offset), Group: "migration"})
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
	for _, to := range []struct {
		name string
		port int
	}{{"posp-1", portOperation}, {"keys", portKeys}} {
		tls := p.client("posv")
		c.POSPs = append(c.POSPs, posv.POSPConfig{Name: to.name, URL: "https://" + at(to.port, p.offset), TLS: &tls})
	}
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
