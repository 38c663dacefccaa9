package posp_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/hsmclient/racal"
	"github.com/keyward/keyward/internal/hsmconfig"
	"github.com/keyward/keyward/internal/pgtest"
	"github.com/keyward/keyward/internal/posp"
	"github.com/keyward/keyward/internal/posp/host"
	"github.com/keyward/keyward/internal/posp/host/core"
	"github.com/keyward/keyward/internal/posp/journal"
	"github.com/keyward/keyward/internal/posp/route"
	"github.com/keyward/keyward/internal/postgres"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/pboc"
	"github.com/keyward/keyward/keys/secret"
	"github.com/keyward/keyward/migrations"
	"github.com/keyward/keyward/sim/bank"
	"github.com/keyward/keyward/sim/hsm"
	"github.com/keyward/keyward/sim/pos"
	"github.com/keyward/keyward/sim/psam"
	"github.com/keyward/keyward/sim/psam/psamtest"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		os.Exit(child(path))
	}
	os.Exit(pgtest.Main(m))
}

// The public test keys of the development data (design.md §6).
const (
	testDomain = "dev"
	rootKey    = "0123456789ABCDEFFEDCBA9876543210"
	zpkKey     = "10204080010204080102040810204080"
	zakKey     = "08080808101010102020202040404040"
	sealKey    = "04040404080808081010101020202020"
	transport  = "40434546494A4C4F51525457585B5D5E"
	merchantID = "104110000000001"
)

// system is a whole front end in one process: posp, a simulated HSM and bank, PostgreSQL, and terminals with cards.
type system struct {
	t        testing.TB
	db       *pgtest.DB
	admin    *pgxpool.Pool
	hsm      *hsm.Device
	bank     *bank.Bank
	cfg      posp.Config
	app      *posp.App
	reg      *prometheus.Registry
	stopPOSP func()
	routing  *route.Handler // of the next startPOSP; nil for none
	skew     atomic.Int64   // nanoseconds by which posp's clock is ahead
	spoolDir string
	wrapHSM  func(posp.HSM) posp.HSM // of the next startPOSP; nil for the client itself
	cluster  func(*hsmclient.Config) // changes the cluster of the next startPOSP; nil for none
}

// newSystem brings everything up with terminals 10000001 to 10000003 issued and bound.
func newSystem(t testing.TB, change func(*posp.Config)) *system {
	t.Helper()
	s := &system{t: t, db: pgtest.New(t), spoolDir: filepath.Join(t.TempDir(), "spool")}
	s.admin = s.db.Pool(t, postgres.Superuser)
	s.startHSM()
	s.startBank()
	for n := 1; n <= 3; n++ {
		s.enrol(n, "tdes", 8)
	}
	s.cfg = s.config()
	if change != nil {
		change(&s.cfg)
	}
	if err := s.cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	s.startPOSP()
	return s
}

func (s *system) startHSM() {
	s.t.Helper()
	d, err := hsm.New(hsm.Config{Ports: []hsm.Port{
		{Name: "online", Addr: "127.0.0.1:0", Allow: hsm.OnlineCommands()}, {Name: "migration", Addr: "127.0.0.1:0", Allow: hsm.MigrationCommands()},
	}})
	s.must(err)
	s.must(d.Start(s.t.Context()))
	s.t.Cleanup(func() { s.stop("hsm", d.Stop) })
	s.hsm = d
}

func (s *system) startBank() {
	s.t.Helper()
	b, err := bank.New(bank.Config{Addr: "127.0.0.1:0", ZPK: unhex(zpkKey), ZAK: unhex(zakKey), IssuerCode: "62220000"})
	s.must(err)
	s.must(b.Start(s.t.Context()))
	s.t.Cleanup(func() { s.stop("bank", b.Stop) })
	s.bank = b
}

// lmk is a test key as the configuration and the database hold it.
func (s *system) lmk(keyType, clear string) string {
	s.t.Helper()
	cryptogram, err := s.hsm.EncryptUnderLMK(keyType, "U", unhex(clear))
	s.must(err)
	return cryptogram
}

func (s *system) config() posp.Config {
	s.t.Helper()
	urlFile := filepath.Join(s.t.TempDir(), "url")
	s.must(os.WriteFile(urlFile, []byte(s.db.URL(migrations.RolePOSP)), 0o600))
	key := func(keyType, clear string) posp.KeyConfig {
		return posp.KeyConfig{Algorithm: keys.TDES, Domain: testDomain, Version: 1, Cryptogram: s.lmk(keyType, clear)}
	}
	cfg := posp.DefaultConfig()
	cfg.Profile, cfg.Instance = service.Test, "posp-test"
	cfg.Database.URLFile = service.SecretFile(urlFile)
	cfg.Terminals = []posp.TerminalListener{{Addr: "127.0.0.1:" + freePort(s.t), Private: true}}
	cfg.Operations = operations(s.t)
	cfg.HSM.Domain = testDomain
	cfg.HSM.Members = []hsmconfig.Member{{Name: "hsm1", Addr: s.hsm.Addr("online").String()}}
	cfg.Hosts = []posp.HostConfig{{Name: "core", Dialect: "core", Addr: s.bank.Addr(), Private: true, ZPK: key("001", zpkKey), ZAK: key("008", zakKey)}}
	cfg.SealKey = key("008", sealKey)
	cfg.Journal.Dir = s.spoolDir
	cfg.Flow.HostTimeout = service.Duration(2 * time.Second)
	cfg.Flow.HSMTimeout = service.Duration(time.Second)
	cfg.Flow.SignOnsPerMinute, cfg.Flow.MessagesPerSecond = 1000, 1000
	cfg.Flow.PINsPerCard, cfg.Flow.PINsPerTerminal = 100_000, 100_000
	cfg.Journal.Ack = journal.AckDatabase
	return cfg
}

// startPOSP wires posp as cmd/posp does.
func (s *system) startPOSP() {
	s.t.Helper()
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("KEYWARD_TEST_LOG") != "" {
		var err error
		log, err = service.NewLogger(os.Stderr, "debug", "text")
		s.must(err)
	}
	ctx := s.t.Context()
	group := hsmclient.Config{
		Name: "online", Domains: []hsmclient.Domain{{Name: testDomain}}, Drivers: map[string]driver.Maker{"racal": racal.Make}, Log: log,
		Members: []member.Spec{{Name: "hsm1", Addr: s.cfg.HSM.Members[0].Addr}},
	}
	if s.cluster != nil {
		s.cluster(&group)
	}
	client, err := hsmclient.New(group)
	s.must(err)
	s.must(client.Start(ctx))
	var hosts []host.Host
	stopHosts := func() {}
	for _, h := range s.cfg.Hosts {
		one, err := core.New(core.Config{
			Name: h.Name, Addr: h.Addr, ZPK: h.ZPK.Key(keys.ZonePIN), ZAK: h.ZAK.Key(keys.ZoneMAC), AcquirerID: "00010000", Log: log,
			ZPKTwins: h.ZPK.Keys(keys.ZonePIN)[1:], ZAKTwins: h.ZAK.Keys(keys.ZoneMAC)[1:],
			BackoffMin: 20 * time.Millisecond, BackoffMax: 100 * time.Millisecond,
		}, client)
		s.must(err)
		s.must(one.Start(ctx))
		hosts = append(hosts, one)
		others := stopHosts
		stopHosts = func() { others(); s.stop("host "+one.Name(), one.Stop) }
	}
	s.reg = service.NewRegistry()
	clock := func() time.Time { return time.Now().Add(time.Duration(s.skew.Load())) }
	var device posp.HSM = client
	if s.wrapHSM != nil {
		device = s.wrapHSM(client)
	}
	app, err := posp.New(posp.Options{Config: s.cfg, HSM: device, Hosts: hosts, Routing: s.routing, Log: log, Registry: s.reg, Now: clock})
	s.must(err)
	s.must(app.Start(ctx))
	s.app = app
	s.stopPOSP = sync.OnceFunc(func() {
		s.stop("posp", app.Stop)
		stopHosts()
		s.stop("hsm client", client.Stop)
	})
	s.t.Cleanup(s.stopPOSP)
	for _, one := range hosts {
		s.await("the line to "+one.Name(), func() bool { return one.Ready() == nil })
	}
}

// restart stops posp in good order and starts it anew on the same database and spool.
func (s *system) restart() {
	s.t.Helper()
	s.stopPOSP()
	s.startPOSP()
}

// enrol stores card, key, terminal and binding as issuer and posv do.
func (s *system) enrol(n int, algorithm string, makLength int) {
	s.t.Helper()
	s.enrolAs(n, algorithm, makLength, "unionpay")
}

// enrolAs is enrol for a terminal of a profile.
func (s *system) enrolAs(n int, algorithm string, makLength int, profile string) {
	s.t.Helper()
	ctx := s.t.Context()
	terminal, card := fmt.Sprintf("1000%04d", n), fmt.Sprintf("6000000000000000%04d", n)
	exec := func(sql string, args ...any) {
		s.t.Helper()
		_, err := s.admin.Exec(ctx, sql, args...)
		s.must(err)
	}
	exec(`INSERT INTO merchants (merchant_id, name, state) VALUES ($1, 'test', 'active') ON CONFLICT DO NOTHING`, merchantID)
	exec(`INSERT INTO terminals (terminal_id, merchant_id, state, algorithm, mak_length, profile) VALUES ($1, $2, 'active', $3, $4, $5)`, terminal, merchantID, algorithm, makLength, profile)
	exec(`INSERT INTO cards (psam_no, state) VALUES ($1, 'in_service')`, card)
	master, scheme := keys.TDES, "U"
	if algorithm == keys.SM4.String() {
		master, scheme = keys.SM4, "R"
	}
	cryptogram, err := s.hsm.EncryptUnderLMK("80D", scheme, masterKeyOf(s.t, master, card))
	s.must(err)
	exec(`INSERT INTO keys (name, usage, algorithm, version, lmk_domain, cryptogram, kcv, length_bits, state)
	      VALUES ('PSAM:' || $1, 'tmk', $4, 1, $2, $3, '000000', 128, 'active')`, card, testDomain, cryptogram, master.String())
	exec(`INSERT INTO bindings (psam_no, terminal_id, reason, actor, valid_from) VALUES ($1, $2, 'test', 'test', now())`, card, terminal)
	exec(`INSERT INTO device_changes (terminal_id, kind) VALUES ($1, 'test')`, terminal)
}

// terminal makes a terminal with its issued card.
func (s *system) terminal(n int, change func(*pos.Config)) *pos.Terminal {
	s.t.Helper()
	number := fmt.Sprintf("6000000000000000%04d", n)
	card, err := psam.NewBlank(number, unhex(transport))
	s.must(err)
	psamtest.Issue(s.t, card, unhex(transport), masterKey(s.t, number), masterKeyOf(s.t, keys.SM4, number))
	cfg := pos.Config{
		TerminalID: fmt.Sprintf("1000%04d", n), MerchantID: merchantID, PSAM: number, Card: card, POSP: s.cfg.Terminals[0].Addr,
		Timeout: 8 * time.Second,
	}
	if change != nil {
		change(&cfg)
	}
	term, err := pos.New(cfg)
	s.must(err)
	s.t.Cleanup(func() { s.stop("terminal", term.Close) })
	return term
}

func (s *system) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *system) stop(what string, stop func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := stop(ctx); err != nil {
		s.t.Errorf("stop %s: %v", what, err)
	}
}

// await polls a condition that has no signal of its own, bounded.
func (s *system) await(what string, ok func() bool) {
	s.t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			s.t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(5 * time.Millisecond) // polling; there is no signal for it
	}
}

// balance is what the bank holds on its first account, in fen.
func (s *system) balance() int64 {
	s.t.Helper()
	for _, b := range s.bank.Book().Balances {
		if strings.HasSuffix(b.PAN, "0018") {
			return b.Balance
		}
	}
	s.t.Fatal("the bank does not know the test account")
	return 0
}

func masterKey(t testing.TB, card string) []byte {
	t.Helper()
	return masterKeyOf(t, keys.TDES, card)
}

func masterKeyOf(t testing.TB, algorithm keys.Algorithm, card string) []byte {
	t.Helper()
	factor, err := pboc.FactorOf(card)
	if err != nil {
		t.Fatal(err)
	}
	key, err := pboc.Derive(algorithm, secret.New(unhex(rootKey)), factor)
	if err != nil {
		t.Fatal(err)
	}
	return key.Reveal()
}

// lastPort is where freePort goes on: no test of this process is given a port that another has got, and processes begin at other places.
var lastPort atomic.Int64

func init() { lastPort.Store(rand.Int64N(portSpan)) }

// Ports of tests lie below those that the system hands out by itself (32768 and up), so that no connection of a parallel test takes one
// before posp listens.
const firstPort, portSpan = 20_000, 12_000

func freePort(t testing.TB) string {
	t.Helper()
	for range 100 {
		port := strconv.FormatInt(firstPort+lastPort.Add(1)%portSpan, 10)
		if l, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("no free port below 32768")
	return ""
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// awaitLong is await for what takes several time-outs of posp.
func (s *system) awaitLong(what string, ok func() bool) {
	s.t.Helper()
	deadline := time.Now().Add(45 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			s.t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(20 * time.Millisecond) // polling; there is no signal for it
	}
}
