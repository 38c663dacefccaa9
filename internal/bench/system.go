package bench

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/keyward/keyward/internal/bench/bare"
	"github.com/keyward/keyward/internal/dev/ceremony"
	"github.com/keyward/keyward/internal/dev/pki"
	"github.com/keyward/keyward/internal/dev/supervise"
	"github.com/keyward/keyward/internal/hsmconfig"
	"github.com/keyward/keyward/internal/posp"
	"github.com/keyward/keyward/internal/postgres"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/migrations"
	"github.com/keyward/keyward/sim/bank"
	"github.com/keyward/keyward/sim/hsm"
	"github.com/keyward/keyward/sim/load"
)

const (
	hsmCount = 3
	// channels is the number of connections to each HSM, for posp and for the relay.
	channels = 4
	// stopTime bounds the stop of each part.
	stopTime = 20 * time.Second
	database = "keyward"
	acquirer = "00010000"
	// balance keeps one account solvent for every run that anybody waits for, in fen.
	balance = 900_000_000_00
	account = "6222020000000000018"
)

// system is everything that a run needs.
type system struct {
	dir      string
	database *postgres.Server
	superURL string
	devices  []*hsm.Device
	bank     *bank.Bank
	keys     ceremony.Keys
	relay    *bare.Relay
	profile  *os.File
	// processes has posp, unless it runs inside; terminalAddr is where posp's terminals connect.
	processes    *supervise.Supervisor
	terminalAddr string

	pospFleet, relayFleet *load.Fleet

	started
}

// started is what has to be stopped.
type started struct {
	undo []func() error // in the order of the start
}

func (s *started) later(stop func() error) { s.undo = append(s.undo, stop) }

// stop ends everything in reverse order.
func (s *started) stop() error {
	var errs []error
	for i := len(s.undo) - 1; i >= 0; i-- {
		errs = append(errs, s.undo[i]())
	}
	s.undo = nil
	return errors.Join(errs...)
}

// bounded gives a stop with a context its time.
func bounded(stop func(context.Context) error) func() error {
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), stopTime)
		defer cancel()
		return stop(ctx)
	}
}

// startSystem brings everything up. The system is returned with an error too, to be stopped.
func startSystem(ctx context.Context, opt Options) (s *system, err error) {
	s = &system{}
	if s.dir, err = os.MkdirTemp("", "keyward-bench-"); err != nil {
		return s, fmt.Errorf("make a directory: %w", err)
	}
	s.later(func() error { return os.RemoveAll(s.dir) })
	cards, err := makeCards(opt.Terminals)
	if err != nil {
		return s, fmt.Errorf("make card keys: %w", err)
	}
	if err := s.startDatabase(ctx, cards); err != nil {
		return s, err
	}
	part(ctx, "simulators", func(ctx context.Context) { err = s.startSimulators(ctx) })
	if err != nil {
		return s, err
	}
	cfg, addr, err := s.pospConfig(ctx)
	if err != nil {
		return s, err
	}
	s.terminalAddr = addr
	if opt.CPUProfile == "" {
		err = s.startChild(ctx, opt, cfg)
	} else {
		part(ctx, "posp", func(ctx context.Context) { err = s.startInside(ctx, cfg) })
	}
	if err != nil {
		return s, err
	}
	part(ctx, "relay", func(ctx context.Context) { err = s.startRelay(ctx, cards) })
	if err != nil {
		return s, err
	}
	part(ctx, "load", func(context.Context) { err = s.startFleets(ctx, opt, cards, addr) })
	return s, err
}

// part marks the goroutines that work starts, so that a profile can tell whose time it was.
func part(ctx context.Context, name string, work func(context.Context)) {
	pprof.Do(ctx, pprof.Labels("part", name), work)
}

func (s *system) startDatabase(ctx context.Context, cards []card) error {
	server, err := postgres.Start(ctx, postgres.Config{Dir: filepath.Join(s.dir, "postgres")})
	if err != nil {
		return err
	}
	s.database = server
	s.later(func() error {
		err := bounded(server.Stop)()
		// The database may have had to take another directory than ours.
		return errors.Join(err, os.RemoveAll(filepath.Dir(server.DataDir())))
	})
	if err := server.EnsureDatabase(ctx, database); err != nil {
		return err
	}
	s.superURL = server.URL(postgres.Superuser, database)
	if err := migrations.Apply(ctx, s.superURL); err != nil {
		return err
	}
	if err := migrations.SetPasswords(ctx, s.superURL, map[string]string{migrations.RolePOSP: server.Password(migrations.RolePOSP)}); err != nil {
		return err
	}
	return fillDatabase(ctx, s.superURL, cards)
}

func (s *system) startSimulators(ctx context.Context) (err error) {
	if s.keys, err = ceremony.Hold(); err != nil {
		return err
	}
	for range hsmCount {
		d, err := hsm.New(hsm.Config{Ports: []hsm.Port{{Name: "online", Addr: "127.0.0.1:0", Allow: hsm.OnlineCommands()}}})
		if err != nil {
			return err
		}
		if err := d.Start(ctx); err != nil {
			return err
		}
		s.later(bounded(d.Stop))
		s.devices = append(s.devices, d)
	}
	zpk, err := hex.DecodeString(ceremony.ClearZPK)
	if err != nil {
		return err
	}
	zak, err := hex.DecodeString(ceremony.ClearZAK)
	if err != nil {
		return err
	}
	s.bank, err = bank.New(bank.Config{Addr: "127.0.0.1:0", ZPK: zpk, ZAK: zak, Accounts: []bank.Account{{PAN: account, PIN: "123456", Balance: balance}}})
	if err != nil {
		return err
	}
	if err := s.bank.Start(ctx); err != nil {
		return err
	}
	s.later(bounded(s.bank.Stop))
	return nil
}

// pospConfig is a configuration as an operator would write it, apart from the profile and its test keys. It returns the address for
// terminals too.
func (s *system) pospConfig(ctx context.Context) (posp.Config, string, error) {
	c := posp.DefaultConfig()
	files, err := pki.Ensure(filepath.Join(s.dir, "pki"), []string{"127.0.0.1"}, []string{"posp"}, time.Now())
	if err != nil {
		return c, "", err
	}
	url := filepath.Join(s.dir, "posp.url")
	if err := os.WriteFile(url, []byte(s.database.URL(migrations.RolePOSP, database)), 0o600); err != nil {
		return c, "", fmt.Errorf("write the connection string: %w", err)
	}
	ports, err := freePorts(ctx, 2)
	if err != nil {
		return c, "", err
	}
	c.Profile, c.Instance, c.Log = service.Test, "bench-1", service.LogConfig{Level: "warn", Format: "json"}
	c.Database.URLFile = service.SecretFile(url)
	c.Terminals = []posp.TerminalListener{{Addr: ports[0], Private: true, Limits: posp.AccessLimits{MaxConnectionsPerAddress: maxTerminals}}}
	c.Operations = service.ListenerConfig{Addr: ports[1], Private: true}
	// No card is issued here, so nobody listens at this address.
	c.KeyService = posp.KeyServiceAddr{URL: "https://127.0.0.1:1", TLS: service.TLSConfig{
		Cert: files.Clients["posp"].Cert, Key: service.SecretFile(files.Clients["posp"].Key), CA: files.CA,
	}}
	c.HSM.Domain, c.HSM.LMKCheck = ceremony.Domain, ceremony.LMKCheck
	for i, d := range s.devices {
		c.HSM.Members = append(c.HSM.Members, hsmconfig.Member{Name: fmt.Sprintf("hsm%d", i+1), Addr: d.Addr("online").String(), Channels: channels})
	}
	c.HSM.Journal.Dir = filepath.Join(s.dir, "hsm-journal")
	c.Hosts = []posp.HostConfig{{Name: "bank", Dialect: "core", Addr: s.bank.Addr(), Private: true, ZPK: keyConfig(s.keys.ZPK), ZAK: keyConfig(s.keys.ZAK)}}
	c.SealKey = keyConfig(s.keys.Seal)
	c.Journal.Dir = filepath.Join(s.dir, "spool")
	c.Flow.AcquirerID = acquirer
	// The measurement signs the same terminals on, and pays with them, as fast as it can.
	c.Flow.SignOnsPerMinute, c.Flow.MessagesPerSecond = 1_000_000, 1_000_000
	c.Flow.PINsPerCard, c.Flow.PINsPerTerminal = 10_000_000, 10_000_000
	return c, ports[0], nil
}

func keyConfig(k keys.Wrapped) posp.KeyConfig {
	return posp.KeyConfig{Algorithm: k.Algorithm, Domain: k.Domain, Version: k.Version, Cryptogram: k.Cryptogram, KCV: k.KCV}
}

// startChild runs posp as operators do: a process of its own with a configuration file.
func (s *system) startChild(ctx context.Context, opt Options, cfg posp.Config) error {
	text, err := yaml.Marshal(cfg)
	if err != nil {
		return fmt.Errorf("configuration of posp: %w", err)
	}
	path := filepath.Join(s.dir, "posp.yaml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return fmt.Errorf("configuration of posp: %w", err)
	}
	bin := opt.BinDir
	if bin == "" {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find posp: %w", err)
		}
		bin = filepath.Dir(self)
	}
	super, err := supervise.New(supervise.Config{LogDir: filepath.Join(s.dir, "log")})
	if err != nil {
		return err
	}
	s.later(super.Stop)
	s.processes = super
	return super.Start(ctx, supervise.Spec{
		Name: "posp", Path: filepath.Join(bin, "posp"), Args: []string{"serve", "--config", path},
		Ready: func(ctx context.Context) error { return ready(ctx, cfg.Operations.Addr) },
	})
}

func ready(ctx context.Context, addr string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	_ = resp.Body.Close() // only the status counts
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("posp is not ready: %s", resp.Status)
	}
	return nil
}

func (s *system) startRelay(ctx context.Context, cards []card) (err error) {
	cfg := bare.Config{
		Channels: channels, Bank: s.bank.Addr(), ZPK: s.keys.ZPK.Cryptogram, ZAK: s.keys.ZAK.Cryptogram, Acquirer: acquirer, Masters: map[string]string{},
	}
	for _, d := range s.devices {
		cfg.HSMs = append(cfg.HSMs, d.Addr("online").String())
	}
	for _, c := range cards {
		cfg.Masters[c.terminal] = c.cryptogram
	}
	if s.relay, err = bare.Start(ctx, cfg); err != nil {
		return err
	}
	s.later(func() error { s.relay.Stop(); return nil })
	return nil
}

// startFleets connects the terminals and has each sign on and pay once, so that both sides are warm and right before anything counts.
func (s *system) startFleets(ctx context.Context, opt Options, cards []card, pospAddr string) error {
	for _, side := range []struct {
		addr string
		into **load.Fleet
		name string
	}{{pospAddr, &s.pospFleet, "posp"}, {s.relay.Addr(), &s.relayFleet, "bare relay"}} {
		list, err := terminals(cards)
		if err != nil {
			return err
		}
		fleet, err := load.NewFleet(ctx, side.addr, opt.Connections, list)
		if err != nil {
			return fmt.Errorf("%s: %w", side.name, err)
		}
		s.later(func() error { fleet.Close(); return nil })
		*side.into = fleet
		for _, work := range []load.Work{load.SignOn, load.Purchase} {
			if err := fleet.Once(work); err != nil {
				return fmt.Errorf("%s: first messages: %w", side.name, err)
			}
		}
	}
	return nil
}

// freePorts finds ports that are free now; between here and posp's start another program may take one, which posp says.
func freePorts(ctx context.Context, n int) ([]string, error) {
	var out []string
	for range n {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer func() { _ = l.Close() }() // held until all are found, so that they differ
		out = append(out, l.Addr().String())
	}
	return out, nil
}
