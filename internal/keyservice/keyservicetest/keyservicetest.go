// Package keyservicetest runs a whole key service for tests: a simulated HSM, a database of its own, HTTPS with client
// certificates, and the root keys of the development data.
package keyservicetest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/hsmclient/racal"
	"github.com/keyward/keyward/internal/hsmconfig"
	"github.com/keyward/keyward/internal/hsmops"
	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/internal/keyservice"
	"github.com/keyward/keyward/internal/keystore"
	"github.com/keyward/keyward/internal/order"
	"github.com/keyward/keyward/internal/pgtest"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/migrations"
	"github.com/keyward/keyward/sim/hsm"
)

const (
	// Domain is the LMK domain that everything begins in: a variant LMK.
	Domain = "dev"
	// NewDomain is that of a key-block LMK in the same device, which holds the LMK of Domain as its old one.
	NewDomain = "dev-block"
	// Card is the first PSAM number of the orders that Order makes.
	Card = "60000000000000000001"
	// TransportKey is the maker's key of blank cards, hex.
	TransportKey = "40434546494A4C4F51525457585B5D5E"
	// patience bounds every wait of a test.
	patience = 20 * time.Second
)

// Service is a running key service and everything around it.
type Service struct {
	*keyservice.App
	Device   *hsm.Device
	HSM      *hsmclient.Cluster
	DB       *pgtest.DB
	Store    *keystore.Store
	Registry *prometheus.Registry
	Log      *bytes.Buffer // read it after the service has stopped
	URL      string
	Client   *http.Client // with the certificate of posp
	Dir      string       // files of this test
	Files    Identity     // the files of Client
	signing  ed25519.PrivateKey
	ca       *authority
	options  keyservice.Options
}

// Options change what New starts.
type Options struct {
	Profile  service.Profile  // default dev
	Now      func() time.Time // default time.Now
	WrapHSM  func(keyservice.HSM) keyservice.HSM
	NoImport bool     // without the root keys
	Clients  []string // whose certificates may ask; default posp
	// Operation is that of an HSM group; nil: none is served.
	Operation *hsmops.Handler
	// Migration is the group that moves keys between LMK domains, made when the device runs; nil for none.
	Migration func(s *Service) keyservice.MigrationHSM
	Operators []string // who may order it
}

// New starts a service and stops it at the end of the test.
func New(t testing.TB, opt Options) *Service {
	t.Helper()
	s := &Service{DB: pgtest.New(t), Dir: t.TempDir(), Log: &bytes.Buffer{}, signing: ed25519.NewKeyFromSeed([]byte("a seed for tests, 32 bytes long!"))}
	s.startHSM(t)
	s.Store = keystore.New(s.DB.Pool(t, migrations.RoleKeys))
	if !opt.NoImport {
		s.importKeys(t)
	}
	s.ca = newAuthority(t, s.Dir, "ca")
	server := s.ca.issue(t, "keys")
	s.Files = s.ca.issue(t, "posp")
	urlFile := filepath.Join(s.Dir, "database-url")
	must(t, os.WriteFile(urlFile, []byte(s.DB.URL(migrations.RoleKeys)), 0o600))
	public := filepath.Join(s.Dir, "order.pub")
	der, err := x509.MarshalPKIXPublicKey(s.signing.Public())
	must(t, err)
	writePEM(t, public, "PUBLIC KEY", der)

	cfg := keyservice.DefaultConfig()
	cfg.Profile = service.Dev
	if opt.Profile != "" {
		cfg.Profile = opt.Profile
	}
	cfg.Database.URLFile = service.SecretFile(urlFile)
	cfg.Listen = service.ListenerConfig{Addr: "127.0.0.1:0", TLS: &service.TLSConfig{Cert: server.Cert, Key: service.SecretFile(server.Key), CA: server.CA}}
	cfg.HSM = hsmconfig.Config{
		Domain: Domain, LMKCheck: "1122334455667788", Firmware: []string{"0001-*"}, Journal: hsmconfig.Journal{Dir: s.Dir},
		Canary:  &hsmconfig.Canary{Usage: keys.Seal, Algorithm: keys.TDES, Cryptogram: "U00", KCV: "A1B2C3D4E5F60718"}, // for Check only: Group has none
		Members: []hsmconfig.Member{{Name: "hsm1", Addr: s.Device.Addr("issuing").String(), Private: true}},
	}
	cfg.OrderKey, cfg.Clients = public, []string{"posp"}
	if opt.Clients != nil {
		cfg.Clients = opt.Clients
	}
	cfg.Rewrap.Operators = opt.Operators
	must(t, cfg.Validate())
	s.options = keyservice.Options{Config: cfg, HSM: s.HSM, Operation: opt.Operation, Log: slog.New(slog.NewTextHandler(s.Log, &slog.HandlerOptions{Level: slog.LevelDebug})), Now: opt.Now}
	if opt.WrapHSM != nil {
		s.options.HSM = opt.WrapHSM(s.HSM)
	}
	if opt.Migration != nil {
		s.options.Migration = opt.Migration(s)
	}
	s.Client = clientOf(t, s.Files)
	s.Start(t)
	t.Cleanup(func() { s.Stop(t) })
	return s
}

// Identity makes a certificate for a client of the service.
func (s *Service) Identity(t testing.TB, name string) Identity {
	t.Helper()
	return s.ca.issue(t, name)
}

// As gives the service as another client sees it: the same service, another certificate.
func (s *Service) As(t testing.TB, name string) *Service {
	t.Helper()
	other := *s
	other.Files = s.Identity(t, name)
	other.Client = clientOf(t, other.Files)
	return &other
}

func clientOf(t testing.TB, files Identity) *http.Client {
	t.Helper()
	config, err := httpapi.ClientTLS(files.Cert, files.Key, files.CA)
	must(t, err)
	transport := &http.Transport{TLSClientConfig: config}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

// Start starts the service; New has done so already, so it is for tests that stopped it. It keeps its address.
func (s *Service) Start(t testing.TB) {
	t.Helper()
	s.Registry = prometheus.NewRegistry()
	s.options.Registry = s.Registry
	app, err := keyservice.New(s.options)
	must(t, err)
	must(t, app.Start(t.Context()))
	s.App = app
	s.options.Config.Listen.Addr = app.Addr().String()
	s.URL = "https://" + app.Addr().String()
}

// Stop stops the service. It may be called more than once.
func (s *Service) Stop(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	must(t, s.App.Stop(ctx))
}

func (s *Service) startHSM(t testing.TB) {
	t.Helper()
	var err error
	s.Device, err = hsm.New(hsm.Config{Ports: []hsm.Port{
		{Name: "issuing", Addr: "127.0.0.1:0", Allow: hsm.IssuingCommands()},
		{Name: "migration", Addr: "127.0.0.1:0", Allow: hsm.MigrationCommands()},
		{Name: "online", Addr: "127.0.0.1:0", Allow: hsm.OnlineCommands()},
	}, IgnoreParity: true})
	must(t, err)
	must(t, s.Device.Start(t.Context()))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		must(t, s.Device.Stop(ctx))
	})
	s.HSM = s.Group(t, "issuing")
}

// Group is a cluster over one port of the device, with both LMK domains.
func (s *Service) Group(t testing.TB, port string) *hsmclient.Cluster {
	t.Helper()
	addr := s.Device.Addr(port).String()
	group, err := hsmclient.New(hsmclient.Config{
		Name: port, Domains: []hsmclient.Domain{{Name: Domain}, {Name: NewDomain}}, Drivers: map[string]driver.Maker{"racal": racal.Make},
		Members: []member.Spec{
			{Name: "hsm1", Domain: Domain, Addr: addr, Channels: 2},
			{Name: "hsm1-block", Domain: NewDomain, Addr: addr, Channels: 2, Settings: map[string]string{"lmk": "keyblock", "lmk_id": "01", "old_domain": Domain}},
		},
	})
	must(t, err)
	must(t, group.Start(t.Context()))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		must(t, group.Stop(ctx))
	})
	// The group's own Wait is for its default domain alone.
	for end := time.Now().Add(patience); slices.ContainsFunc(group.Members(), func(s member.Status) bool { return s.State != member.Working }); time.Sleep(time.Millisecond) { // polling
		if time.Now().After(end) {
			t.Fatalf("devices are not admitted: %+v", group.Members())
		}
	}
	return group
}

// Wrap is the key ceremony: a clear key (hex) as a cryptogram under the LMK.
func (s *Service) Wrap(t testing.TB, usage keys.Usage, algorithm keys.Algorithm, clear string) keys.Wrapped {
	t.Helper()
	raw, err := hex.DecodeString(clear)
	must(t, err)
	types := map[keys.Usage]string{keys.Root: "011", keys.CardControl: "309"}
	schemes := map[keys.Algorithm]string{keys.TDES: "U", keys.SM4: "R"}
	text, err := s.Device.EncryptUnderLMK(types[usage], schemes[algorithm], raw)
	must(t, err)
	return keys.Wrapped{Usage: usage, Algorithm: algorithm, Version: 1, Domain: Domain, Cryptogram: text}
}

// ImportSM4 imports what cards whose keys are all SM4 keys come from.
func (s *Service) ImportSM4(t testing.TB) {
	t.Helper()
	s.importAll(t, []imported{
		{"PSAM-TRANSPORT", keys.CardControl, keys.SM4, TransportKey},
		{"PSAM-CCK", keys.Root, keys.SM4, "01010101020202020404040410101010"}, {"PSAM-ACK", keys.Root, keys.SM4, "02020202040404040808080820202020"},
	})
}

// imported is a key as the ceremony brings it.
type imported struct {
	name      string
	usage     keys.Usage
	algorithm keys.Algorithm
	clear     string
}

func (s *Service) importKeys(t testing.TB) {
	t.Helper()
	s.importAll(t, []imported{
		{"PSAM-ROOT", keys.Root, keys.TDES, "0123456789ABCDEFFEDCBA9876543210"}, {"PSAM-ROOT", keys.Root, keys.SM4, "0123456789ABCDEFFEDCBA9876543210"},
		{"PSAM-CCK", keys.Root, keys.TDES, "01010101020202020404040410101010"}, {"PSAM-ACK", keys.Root, keys.TDES, "02020202040404040808080820202020"},
		{"PSAM-TRANSPORT", keys.CardControl, keys.TDES, TransportKey},
	})
}

func (s *Service) importAll(t testing.TB, list []imported) {
	t.Helper()
	for _, k := range list {
		_, err := keyservice.Import(t.Context(), s.Store, s.HSM, service.Dev, k.name, s.Wrap(t, k.usage, k.algorithm, k.clear), "", "ceremony")
		must(t, err)
	}
}

// Order makes and signs order number n for count cards from Card on, for both algorithms, ending after life.
func (s *Service) Order(t testing.TB, n, count int, life time.Duration) (order.Order, order.Signed) {
	t.Helper()
	return s.OrderFrom(t, n, Card, count, life, keys.TDES, keys.SM4)
}

// OrderFrom is Order with a first card and algorithms of its own.
func (s *Service) OrderFrom(t testing.TB, n int, from string, count int, life time.Duration, algorithms ...keys.Algorithm) (order.Order, order.Signed) {
	t.Helper()
	o := order.Order{
		ID: fmt.Sprintf("0e7f6f5a-7f43-4d55-9d3c-%012d", n), PSAMFrom: from, Count: count, Algorithms: algorithms,
		ExpiresAt: time.Now().Add(life), Approvers: []string{"alice", "bob"}, Author: "alice",
	}
	signed, err := o.Sign(s.signing)
	must(t, err)
	return o, signed
}

// Call sends a JSON request with an idempotency key (may be empty) and returns status and body.
func (s *Service) Call(t testing.TB, method, path, key string, body any) (int, string) {
	t.Helper()
	text, err := json.Marshal(body)
	must(t, err)
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, bytes.NewReader(text))
	must(t, err)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Operator", "carol")
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	resp, err := s.Client.Do(r)
	must(t, err)
	defer func() { must(t, resp.Body.Close()) }()
	answer, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, string(answer)
}
