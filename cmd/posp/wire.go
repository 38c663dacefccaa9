package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/internal/posp"
	"github.com/keyward/keyward/internal/posp/host"
	"github.com/keyward/keyward/internal/posp/host/core"
	"github.com/keyward/keyward/internal/posp/host/pool"
	"github.com/keyward/keyward/internal/posp/relay"
	"github.com/keyward/keyward/internal/posp/route"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/keys"
)

// stopBound is how long the whole of posp may take to stop; supervisors allow 30 s.
const stopBound = 25 * time.Second

// serveFrontEnd wires posp: the only place where concrete parts are named. It stays one straight function because each step needs
// values of earlier ones.
func serveFrontEnd(ctx context.Context, path string) (err error) {
	cfg := posp.DefaultConfig()
	log, err := service.Prepare(path, &cfg, &cfg.Log)
	if err != nil {
		return err
	}
	log = log.With("service", "posp", "instance", cfg.Instance)
	reg := service.NewRegistry()
	parts := service.NewLifecycle(log)
	defer func() { err = errors.Join(err, stopParts(ctx, parts)) }()

	// The HSMs and their operation first: with all of them away operators must be able to mend the list.
	hsm, err := hsmGroup{
		name: "online", instance: cfg.Instance, profile: cfg.Profile, cfg: cfg.HSM, needs: onlineNeeds, database: cfg.Database,
		operators: cfg.HSMOperation.Operators, relays: cfg.HSMOperation.Relays,
	}.start(ctx, log, reg, parts)
	if err != nil {
		return err
	}
	routing := route.NewHandler(cfg.Routing.Operators, log)
	if err := serveOperation(ctx, cfg.HSMOperation, hsm.operation, routing, log, parts); err != nil {
		return err
	}

	var hosts []host.Host
	for _, h := range cfg.Hosts {
		one, err := newHost(h, cfg, hsm.Cluster, log, reg)
		if err != nil {
			return err
		}
		if err := one.Start(ctx); err != nil {
			return err
		}
		parts.Add("host "+h.Name, 3*time.Second, one.Stop)
		hosts = append(hosts, one)
	}
	keyService, err := relay.New(cfg.KeyService.URL, cfg.KeyService.TLS.Cert, string(cfg.KeyService.TLS.Key), cfg.KeyService.TLS.CA, log)
	if err != nil {
		return err
	}
	app, err := posp.New(posp.Options{Config: cfg, HSM: hsm.Cluster, Operation: hsm.operation, Routing: routing, Hosts: hosts, Relay: keyService, Log: log, Registry: reg})
	if err != nil {
		return err
	}
	parts.Add("posp", stopBound, app.Stop)
	if err := app.Start(ctx); err != nil {
		return err
	}
	log.InfoContext(ctx, "posp is ready", "terminals", cfg.Terminals[0].Addr, "operations", cfg.Operations.Addr)
	return app.Wait(ctx)
}

// stopParts stops within the bound of the whole process, also when ctx has ended.
func stopParts(ctx context.Context, parts *service.Lifecycle) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopBound)
	defer cancel()
	return parts.Stop(ctx)
}

// newHost makes the pool of connections to a host.
func newHost(h posp.HostConfig, cfg posp.Config, hsm *hsmclient.Cluster, log *slog.Logger, reg prometheus.Registerer) (*pool.Pool, error) {
	if h.Dialect != "core" {
		return nil, fmt.Errorf("hosts: %s has dialect %q; known is: core", h.Name, h.Dialect)
	}
	location, err := time.LoadLocation(cfg.Flow.Timezone)
	if err != nil {
		return nil, fmt.Errorf("flow.timezone: %w", err)
	}
	primary, secondary := h.Reach()
	all := len(primary) + len(secondary)
	made := 0
	lines := func(addrs []string) ([]pool.Line, error) {
		var out []pool.Line
		for _, addr := range addrs {
			made++
			name := h.Name
			if all > 1 {
				name = fmt.Sprintf("%s/%d", h.Name, made) // in logs and metrics; the journal has the host's
			}
			one, err := core.New(core.Config{
				Name: name, Addr: addr, ZPK: h.ZPK.Key(keys.ZonePIN), ZPKTwins: h.ZPK.Keys(keys.ZonePIN)[1:],
				ZAK: h.ZAK.Key(keys.ZoneMAC), ZAKTwins: h.ZAK.Keys(keys.ZoneMAC)[1:], Codes: h.Codes, AcquirerID: cfg.Flow.AcquirerID,
				Location: location, Log: log, Registerer: reg,
			}, hsm)
			if err != nil {
				return nil, err
			}
			out = append(out, one)
		}
		return out, nil
	}
	c := pool.Config{Name: h.Name, MaxInFlight: h.MaxInFlight, Registerer: reg}
	if c.Primary, err = lines(primary); err == nil {
		c.Secondary, err = lines(secondary)
	}
	if err != nil {
		return nil, err
	}
	return pool.New(c)
}
