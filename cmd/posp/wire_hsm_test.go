package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/internal/hsmconfig"
	"github.com/keyward/keyward/internal/hsmops"
	"github.com/keyward/keyward/internal/hsmops/hsmopstest"
	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/internal/httpapi/httpapitest"
	"github.com/keyward/keyward/internal/pgtest"
	"github.com/keyward/keyward/internal/posp/route"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/migrations"
	"github.com/keyward/keyward/sim/hsm"
)

// patience bounds every wait of these tests.
const patience = 40 * time.Second

// devices are simulated HSMs of the online group.
func devices(t *testing.T, n int) []*hsm.Device {
	t.Helper()
	var out []*hsm.Device
	for i := range n {
		d, err := hsm.New(hsm.Config{Serial: fmt.Sprintf("SIM%03d", i+1), Ports: []hsm.Port{{Name: "online", Addr: "127.0.0.1:0", Allow: hsm.OnlineCommands()}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := d.Stop(ctx); err != nil {
				t.Error(err)
			}
		})
		out = append(out, d)
	}
	return out
}

// instance is one posp's HSM group with its operation, on a listener with mutual TLS.
type instance struct {
	*runningGroup
	config string // client file of li.na
	parts  *service.Lifecycle
}

// groupOf describes an online group with the first devices as members.
func groupOf(t *testing.T, db *pgtest.DB, name string, list []*hsm.Device) hsmGroup {
	t.Helper()
	url := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(url, []byte(db.URL(migrations.RolePOSP)), 0o600); err != nil {
		t.Fatal(err)
	}
	c := hsmconfig.Default()
	c.Domain, c.Probing.AdmitTimes, c.Journal.Dir = "dev", 1, filepath.Join(t.TempDir(), "journal")
	c.List.LocalCopy = filepath.Join(t.TempDir(), "list.json")
	for i, d := range list {
		c.Members = append(c.Members, hsmconfig.Member{Name: fmt.Sprintf("hsm%d", i+1), Addr: d.Addr("online").String(), Channels: 1})
	}
	return hsmGroup{
		name: "online", instance: name, profile: service.Dev, cfg: c, needs: onlineNeeds, database: service.DatabaseConfig{URLFile: service.SecretFile(url)},
		operators: []string{"li.na"},
	}
}

func startGroup(t *testing.T, g hsmGroup) *instance {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	i := &instance{parts: service.NewLifecycle(log)}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := i.parts.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	var err error
	if i.runningGroup, err = g.start(t.Context(), log, service.NewRegistry(), i.parts); err != nil {
		t.Fatal(err)
	}
	router, err := httpapi.NewRouter(log, hsmops.OpenAPI, nil)
	if err != nil {
		t.Fatal(err)
	}
	i.operation.Mount(router)
	listener := hsmopstest.Listen(t, router, "li.na")
	i.config = (&operated{listener: listener}).file(t, "li.na")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := i.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	return i
}

func (i *instance) must(t *testing.T, want string, args ...string) {
	t.Helper()
	if code, out, errs := (&operated{config: i.config}).posp(args...); code != 0 || !strings.Contains(out, want) {
		t.Fatalf("posp hsm %v: %d %s%s", args, code, out, errs)
	}
}

// until looks again and again at what other goroutines do.
func until(t *testing.T, what string, isSo func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !isSo(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not so: %s", what)
		}
	}
}

// TestTwoInstances: a member that an operator adds on one posp and saves is in service on the other, and is there after a restart; one that
// is removed and saved goes. With real devices, a real database and real certificates.
func TestTwoInstances(t *testing.T) {
	t.Parallel()
	db, list := pgtest.New(t), devices(t, 3)
	a, b := startGroup(t, groupOf(t, db, "posp-a", list[:2])), startGroup(t, groupOf(t, db, "posp-b", list[:2]))
	a.must(t, "hsm3 is added and working.", "add", "hsm3", list[2].Addr("online").String(), "--channels", "1")
	a.must(t, "changes not saved", "list")
	a.must(t, "priority 2", "priority", "hsm2", "2")
	a.must(t, "Version 1 of the online list is saved: 3 members.", "save", "--reason", "third device")
	until(t, "posp-b has hsm3 in service", func() bool {
		s, err := b.Member("hsm3")
		two, err2 := b.Member("hsm2")
		return err == nil && err2 == nil && s.State == member.Working && two.Spec.Priority == 2
	})
	until(t, "posp-b shows the version", func() bool {
		_, out, _ := (&operated{config: b.config}).posp("list")
		return strings.Contains(out, "list version 1 (stored list)") && !strings.Contains(out, "not saved")
	})
	c := startGroup(t, groupOf(t, db, "posp-c", list[:1]))
	if n := len(c.Members()); n != 3 {
		t.Errorf("a third instance began with %d members, want those of the saved list", n)
	}
	b.must(t, "hsm1 is removed.", "remove", "hsm1")
	b.must(t, "Version 2", "save")
	for _, i := range []*instance{a, c} {
		until(t, "hsm1 is gone everywhere", func() bool { _, err := i.Member("hsm1"); return member.IsRefusal(err, member.NotFound) })
	}
	until(t, "the history of all is in the database", func() bool {
		_, out, _ := (&operated{config: a.config}).posp("history", "--all", "--member", "hsm1", "--limit", "50")
		return strings.Contains(out, "posp-b hsm1") && strings.Contains(out, "posp-a hsm1") && strings.Contains(out, "list version 2, saved on posp-b")
	})
}

// TestFenceIsToldToOthers: a device that changes its LMK is fenced by the instance that sees it, and the other one looks at once, long before
// its own heartbeat would.
func TestFenceIsToldToOthers(t *testing.T) {
	t.Parallel()
	db, list := pgtest.New(t), devices(t, 2)
	quick, slow := groupOf(t, db, "posp-a", list), groupOf(t, db, "posp-b", list)
	slow.cfg.Probing.Every, slow.cfg.Probing.Timeout = service.Duration(time.Hour), service.Duration(time.Second)
	a, b := startGroup(t, quick), startGroup(t, slow)
	until(t, "both have asked the database", func() bool {
		_, one, _ := (&operated{config: a.config}).posp("list", "--output", "json")
		_, two, _ := (&operated{config: b.config}).posp("list", "--output", "json")
		return strings.Contains(one, "checked_at") && strings.Contains(two, "checked_at")
	})
	if err := list[1].SetFaults(hsm.Faults{LMKSeed: "another"}); err != nil {
		t.Fatal(err)
	}
	a.must(t, "", "list")
	if _, err := a.Probe(t.Context(), "hsm2"); err != nil {
		t.Fatal(err)
	}
	for _, i := range []*instance{a, b} {
		until(t, "hsm2 is fenced", func() bool { s, err := i.Member("hsm2"); return err == nil && s.State == member.Fenced })
		if s, err := i.Member("hsm1"); err != nil || s.State != member.Working {
			t.Errorf("hsm1 is %s: %v", s.State, err)
		}
	}
}

// TestGroupRefusals: a group that asks for more than its drivers can, or whose files are wrong, does not start.
func TestGroupRefusals(t *testing.T) {
	t.Parallel()
	db, list := pgtest.New(t), devices(t, 1)
	for want, change := range map[string]func(*hsmGroup){
		"cannot: make work keys": func(g *hsmGroup) {
			g.cfg.Members[0].Driver, g.cfg.Members[0].Addr = "pkcs11", "/usr/lib/none.so"
			g.cfg.Members[0].Settings = map[string]string{"token": "t", "pin_file": "/none", "lmk_label": "lmk"}
		},
		"there is no driver":    func(g *hsmGroup) { g.cfg.Members[0].Driver = "abacus" },
		"header_size":           func(g *hsmGroup) { g.cfg.Members[0].Settings = map[string]string{"header_size": "4"} },
		"stands twice":          func(g *hsmGroup) { g.cfg.Members = append(g.cfg.Members, g.cfg.Members[0]) },
		"hsm.members_dir":       func(g *hsmGroup) { g.cfg.MembersDir = "/none" },
		"hsm.journal":           func(g *hsmGroup) { g.cfg.Journal.Dir = "/dev/null/journal" },
		"database.url_file":     func(g *hsmGroup) { g.database.URLFile = "/none" },
		"priority 17":           func(g *hsmGroup) { g.cfg.Members[0].Priority = 17 },
		"cannot be the probe":   func(g *hsmGroup) { g.cfg.Members[0].Probe = "BW" },
		"no LMK domain \"old\"": func(g *hsmGroup) { g.cfg.Members[0].Domain = "old" },
	} {
		g := groupOf(t, db, "posp-x", list)
		change(&g)
		parts := service.NewLifecycle(nil)
		_, err := g.start(t.Context(), slog.New(slog.DiscardHandler), service.NewRegistry(), parts)
		switch {
		case err != nil && strings.Contains(err.Error(), "built without cgo"):
			t.Logf("SKIP: %q: %v", want, err)
		case err == nil || !strings.Contains(err.Error(), want):
			t.Errorf("%v, want %q in it", err, want)
		}
		if err := parts.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// TestServeOperation: the listener of its own needs certificates that it can read, and serves the interface and its document.
func TestServeOperation(t *testing.T) {
	t.Parallel()
	h, err := hsmops.New(hsmops.Options{Cluster: hsmopstest.NewCluster()})
	if err != nil {
		t.Fatal(err)
	}
	log, parts := slog.New(slog.DiscardHandler), service.NewLifecycle(nil)
	o := hsmconfig.Operation{Addr: "127.0.0.1:0", TLS: &service.TLSConfig{Cert: "/none", Key: "/none", CA: "/none"}}
	if err := serveOperation(t.Context(), o, h, route.NewHandler(nil, log), log, parts); err == nil || !strings.Contains(err.Error(), "hsm_operation.tls") {
		t.Errorf("without certificates: %v", err)
	}
	cert, key := httpapitest.Certificate(t, "posp")
	o.TLS = &service.TLSConfig{Cert: cert, Key: service.SecretFile(key), CA: cert}
	if err := serveOperation(t.Context(), o, h, route.NewHandler(nil, log), log, parts); err != nil {
		t.Error(err)
	}
	if err := serveOperation(t.Context(), hsmconfig.Operation{}, h, route.NewHandler(nil, log), log, parts); err != nil {
		t.Errorf("without an address: %v", err)
	}
	if err := parts.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}
