package dev

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/hsmclient/racal"
	"github.com/keyward/keyward/internal/dev/ceremony"
	"github.com/keyward/keyward/internal/hsmconfig"
	"github.com/keyward/keyward/internal/issuer"
	"github.com/keyward/keyward/internal/keyservice"
	"github.com/keyward/keyward/internal/posp"
	"github.com/keyward/keyward/internal/posv"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/sim/control"
	"github.com/keyward/keyward/sim/hsm"
)

const repository = "../.."

// kinds makes an empty configuration of each process, by the name of its file.
var kinds = map[string]func() any{
	"posp":   func() any { c := posp.DefaultConfig(); return &c },
	"keys":   func() any { c := keyservice.DefaultConfig(); return &c },
	"posv":   func() any { c := posv.DefaultConfig(); return &c },
	"issuer": func() any { c := issuer.DefaultConfig(); return &c },
	"sim":    func() any { return &control.Config{Profile: service.Production} },
}

func files(t *testing.T, pattern string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(repository, pattern))
	if err != nil || len(list) == 0 {
		t.Fatalf("no file %s: %v", pattern, err)
	}
	return list
}

// load loads a sample as the process would. A changed text goes through a file of its own.
func load(t *testing.T, kind, text string) error {
	t.Helper()
	make, ok := kinds[kind]
	if !ok {
		t.Fatalf("no process reads a configuration named %s", kind)
	}
	path := filepath.Join(t.TempDir(), kind+".yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return service.LoadConfig(path, make())
}

func read(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// TestSamples loads every committed configuration for containers.
func TestSamples(t *testing.T) {
	t.Parallel()
	list := files(t, "deploy/config/*.yaml")
	if len(list) != len(kinds) {
		t.Errorf("%d samples, want one for each of %d processes", len(list), len(kinds))
	}
	for _, path := range list {
		kind := strings.TrimSuffix(filepath.Base(path), ".yaml")
		if err := load(t, kind, read(t, path)); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestSamplesCarryTheKeysOfTheCeremony: the cryptograms stand in the sample as text.
func TestSamplesCarryTheKeysOfTheCeremony(t *testing.T) {
	t.Parallel()
	cfg := posp.DefaultConfig()
	if err := service.LoadConfig(filepath.Join(repository, "deploy/config/posp.yaml"), &cfg); err != nil {
		t.Fatal(err)
	}
	held, err := ceremony.Hold()
	if err != nil {
		t.Fatal(err)
	}
	same := func(a, b posp.KeyConfig) bool { return reflect.DeepEqual(a, b) }
	if !same(cfg.Hosts[0].ZPK, keyConfig(held.ZPK)) || !same(cfg.Hosts[0].ZAK, keyConfig(held.ZAK)) || !same(cfg.SealKey, keyConfig(held.Seal)) {
		t.Error("deploy/config/posp.yaml has other keys than the ceremony gives")
	}
}

// TestSamplesHaveTheirCanaries: every domain of the samples has one, and a simulated device computes the check value that stands there.
func TestSamplesHaveTheirCanaries(t *testing.T) {
	t.Parallel()
	online, issuing := posp.DefaultConfig(), keyservice.DefaultConfig()
	for name, into := range map[string]any{"posp": &online, "keys": &issuing} {
		if err := service.LoadConfig(filepath.Join(repository, "deploy/config", name+".yaml"), into); err != nil {
			t.Fatal(err)
		}
	}
	device, err := hsm.New(hsm.Config{Ports: []hsm.Port{
		{Name: "online", Addr: "127.0.0.1:0", Allow: hsm.OnlineCommands()}, {Name: "issuing", Addr: "127.0.0.1:0", Allow: hsm.IssuingCommands()},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := device.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	defer func() { _ = device.Stop(ctx) }()
	for port, group := range map[string]hsmconfig.Config{"online": online.HSM, "issuing": issuing.HSM} {
		domains := append([]hsmconfig.Domain{{
			Name: group.Domain, LMKCheck: group.LMKCheck, Firmware: group.Firmware, Canary: group.Canary, Settings: group.Settings,
		}}, group.Domains...)
		for _, d := range domains {
			if d.Canary == nil {
				t.Errorf("%s: domain %s has no canary", port, d.Name)
				continue
			}
			cluster, err := hsmclient.New(hsmclient.Config{
				Name: port, Drivers: map[string]driver.Maker{"racal": racal.Make},
				Domains: []hsmclient.Domain{{Name: d.Name, LMKCheck: d.LMKCheck, Firmware: d.Firmware, Canary: d.Canary.Key(d.Name)}},
				Members: []member.Spec{{Name: "hsm1", Addr: device.Addr(port).String(), Channels: 1, Settings: d.Settings}},
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(cluster.Start(ctx), cluster.Wait(ctx), cluster.Stop(ctx)); err != nil {
				t.Errorf("%s: domain %s: %v", port, d.Name, err)
			}
		}
	}
}

// secretFile is a setting that names a file of the production machine, whose rights LoadConfig checks.
var secretFile = regexp.MustCompile(`/etc/keyward/secrets/[a-z.-]+`)

// production gives the text of an example with its secret files on this machine.
func production(t *testing.T, kind string) string {
	t.Helper()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	return secretFile.ReplaceAllString(read(t, filepath.Join(repository, "deploy/config/production", kind+".example.yaml")), secret)
}

func TestProductionExamples(t *testing.T) {
	t.Parallel()
	for _, path := range files(t, "deploy/config/production/*.example.yaml") {
		kind := strings.TrimSuffix(filepath.Base(path), ".example.yaml")
		err := load(t, kind, production(t, kind))
		if kind != "issuer" {
			if err != nil {
				t.Errorf("%s: %v", path, err)
			}
			continue
		}
		// The one driver that there is belongs to the simulators; nothing else of the example may be refused.
		if err == nil || !strings.Contains(err.Error(), "simulated cards") || strings.Count(err.Error(), "\n") != 1 {
			t.Errorf("%s: want the simulated reader refused and nothing else: %v", path, err)
		}
	}
}

// TestProductionRefuses: what is good enough for development is not for production.
func TestProductionRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, kind string
		old, new   string // a change of the production example
		want       string
	}{
		{"test zone key", "posp", `"A1B2C3D4E5F60718"`, "2121A7B507A7726D", "public test key"},
		{"test sealing key", "posp", `"C1B2C3D4E5F60718"`, "8750E051DC15268A", "public test key"},
		{"test LMK", "posp", `"1122334455667788"`, `"2686047444912422"`, "public test LMK"},
		{"test LMK for key blocks", "posp", `"1122334455667788"`, `"DB3FB663EE8D2B66"`, "public test LMK for key blocks"},
		{"test LMK of the key service", "keys", `"1122334455667788"`, `"2686047444912422"`, "public test LMK"},
		{"plain terminal line", "posp", `addr: "10.1.0.10:7001", private: true`, `addr: "10.1.0.10:7001"`, "private: true"},
		{"plain host line", "posp", "    private: true\n", "", "hosts: the line to core is plain TCP"},
		{"plain line to an HSM", "posp", "      private: true # a plain", "      # a plain", "the line to hsm-a2 is plain"},
		{"test canary", "posp", `"D1B2C3D4E5F60718"`, `"8750E051DC15268A"`, "public test key"},
		{"no journal of HSM exchanges", "keys", "  journal: {dir: /var/lib/keyward/hsm-journal}\n", "", "hsm.journal.dir"},
		{"operation without certificates", "posp", "addr: 10.2.0.10:8084\n  tls:", "addr: 10.2.0.10:8084\n  #", "hsm_operation.tls"},
		{"unknown role of an HSM", "posp", "role: standby", "role: hot", "role must be working, standby or fenced"},
		{"plain operations API", "posv", "  tls: {", "  #", "plain TCP"},
		{"unknown setting", "posv", "timezone:", "time_zone:", "time_zone"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			text := production(t, test.kind)
			changed := strings.ReplaceAll(text, test.old, test.new)
			if changed == text {
				t.Fatalf("the example does not hold %q", test.old)
			}
			if err := load(t, test.kind, changed); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q in it", err, test.want)
			}
		})
	}
	for kind := range kinds {
		text := strings.Replace(read(t, filepath.Join(repository, "deploy/config", kind+".yaml")), "profile: dev", "profile: production", 1)
		if err := load(t, kind, text); err == nil {
			t.Errorf("%s: production takes the development sample", kind)
		}
	}
}

// compose is what the test looks at in docker-compose.yml.
type compose struct {
	Services map[string]struct {
		Image       string
		Command     []string
		Ports       []string
		Volumes     []string
		Secrets     []string
		Healthcheck struct{ Test []string }
		DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
	}
	Volumes map[string]any
	Secrets map[string]struct{ File string }
}

func TestCompose(t *testing.T) {
	t.Parallel()
	var c compose
	if err := yaml.Unmarshal([]byte(read(t, filepath.Join(repository, "docker-compose.yml"))), &c); err != nil {
		t.Fatal(err)
	}
	var published []string
	for name, s := range c.Services {
		for _, v := range s.Volumes {
			if volume, _, _ := strings.Cut(v, ":"); !declared(c.Volumes, volume) {
				t.Errorf("%s: volume %s is not declared", name, volume)
			}
		}
		for _, secret := range s.Secrets {
			if _, err := os.Stat(filepath.Join(repository, c.Secrets[secret].File)); err != nil || c.Secrets[secret].File == "" {
				t.Errorf("%s: secret %s: %v", name, secret, err)
			}
		}
		for other, how := range s.DependsOn {
			target, ok := c.Services[other]
			if !ok {
				t.Errorf("%s depends on %s, which is no service", name, other)
			}
			if how.Condition == "service_healthy" && len(target.Healthcheck.Test) == 0 {
				t.Errorf("%s waits for the health of %s, which has no check", name, other)
			}
		}
		for _, p := range s.Ports {
			if !strings.HasPrefix(p, "127.0.0.1:") {
				t.Errorf("%s: port %s is published to the world", name, p)
			}
			published = append(published, p)
		}
		if i := slices.Index(s.Command, "--config"); i >= 0 {
			file := filepath.Base(s.Command[i+1])
			if _, err := os.Stat(filepath.Join(repository, "deploy/config", file)); err != nil || filepath.Dir(s.Command[i+1]) != "/etc/keyward" {
				t.Errorf("%s: configuration %s: %v", name, s.Command[i+1], err)
			}
		}
	}
	for _, want := range []string{"postgres", "init", "simulators", "keys", "posp", "posv", "issuer", "fill"} {
		if _, ok := c.Services[want]; !ok {
			t.Errorf("service %s is missing", want)
		}
	}
	// The contracts of design.md §6; the issuing ports of the HSMs stay inside.
	for _, p := range []string{"7001", "7002", "7101", "8080", "8081", "8082", "8083", "8084", "8090", "15001", "15002", "15003"} {
		if !slices.Contains(published, "127.0.0.1:"+p+":"+p) {
			t.Errorf("port %s is not published", p)
		}
	}
}

func declared(m map[string]any, name string) bool {
	_, ok := m[name]
	return ok
}

func TestDockerfile(t *testing.T) {
	t.Parallel()
	text := read(t, filepath.Join(repository, "Dockerfile"))
	for _, want := range []string{"FROM golang:1.26", " AS build", "./cmd/...", "deploy/config/*.yaml /etc/keyward/", "\nUSER 10001:10001\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("the Dockerfile lacks %q", want)
		}
	}
}
