package main

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/internal/posp"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/keys"
)

// TestHostOfLines: each connection of a host has a name of its own, and what is wrong is said before anything is connected.
func TestHostOfLines(t *testing.T) {
	t.Parallel()
	key := posp.KeyConfig{Algorithm: keys.TDES, Domain: "dev", Version: 1, Cryptogram: "U0"}
	h := posp.HostConfig{
		Name: "bank", Dialect: "core", ZPK: key, ZAK: key, Codes: map[string]string{"ZZ": "05"},
		Lines: []posp.LineConfig{{Addr: "127.0.0.1:1", Connections: 2}, {Addr: "127.0.0.1:2", Role: posp.SecondaryLine}},
	}
	cfg, log := posp.DefaultConfig(), slog.New(slog.DiscardHandler)
	var cluster *hsmclient.Cluster // is not asked before a connection stands
	reg := service.NewRegistry()
	p, err := newHost(h, cfg, cluster, log, reg)
	if err != nil {
		t.Fatal(err)
	}
	if p.Name() != "bank" || p.Ready() == nil {
		t.Errorf("%s, %v", p.Name(), p.Ready())
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for _, f := range families {
		if f.GetName() == "keyward_host_connected" || f.GetName() == "keyward_host_in_flight" {
			for _, m := range f.GetMetric() {
				seen = append(seen, m.GetLabel()[0].GetValue())
			}
		}
	}
	if got := strings.Join(seen, " "); got != "bank/1 bank/2 bank/3 bank" {
		t.Errorf("metrics of %s", got)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*posp.HostConfig, *posp.Config){
		"known is: core":            func(h *posp.HostConfig, _ *posp.Config) { h.Dialect = "other" },
		"host bank/1: codes: 51":    func(h *posp.HostConfig, _ *posp.Config) { h.Codes = map[string]string{"51": "00"} },
		"flow.timezone":             func(_ *posp.HostConfig, c *posp.Config) { c.Flow.Timezone = "Nowhere" },
		"host bank/1: zone MAC key": func(h *posp.HostConfig, _ *posp.Config) { h.ZAK = posp.KeyConfig{} },
	} {
		bad, cfg := h, posp.DefaultConfig()
		change(&bad, &cfg)
		if _, err := newHost(bad, cfg, cluster, log, service.NewRegistry()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
