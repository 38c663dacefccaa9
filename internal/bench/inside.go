package bench

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/pprof"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/hsmclient/racal"
	"github.com/keyward/keyward/internal/posp"
	"github.com/keyward/keyward/internal/posp/host"
	"github.com/keyward/keyward/internal/posp/host/core"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/keys"
)

// startInside runs posp in this process, wired as cmd/posp does but for the relay of card issuing, so that a profile can see it.
func (s *system) startInside(ctx context.Context, cfg posp.Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	registry := service.NewRegistry()
	var members []member.Spec
	for _, m := range cfg.HSM.Members {
		members = append(members, member.Spec{Name: m.Name, Addr: m.Addr, Channels: m.Channels})
	}
	cluster, err := hsmclient.New(hsmclient.Config{
		Name: "online", Domains: []hsmclient.Domain{{Name: cfg.HSM.Domain, LMKCheck: cfg.HSM.LMKCheck}}, Members: members,
		Drivers: map[string]driver.Maker{"racal": racal.Make}, Timeout: cfg.HSM.Timeout.Std(), Log: log, Registerer: registry,
	})
	if err != nil {
		return err
	}
	if err := cluster.Start(ctx); err != nil {
		return err
	}
	s.later(bounded(cluster.Stop))
	h := cfg.Hosts[0]
	downstream, err := core.New(core.Config{
		Name: h.Name, Addr: h.Addr, ZPK: h.ZPK.Key(keys.ZonePIN), ZAK: h.ZAK.Key(keys.ZoneMAC), AcquirerID: cfg.Flow.AcquirerID,
		Log: log, Registerer: registry,
	}, cluster)
	if err != nil {
		return err
	}
	// The host signs on with MACs of the HSM: before a device is admitted it would only fail, and try again after a pause.
	if err := cluster.Wait(ctx); err != nil {
		return err
	}
	if err := downstream.Start(ctx); err != nil {
		return err
	}
	s.later(bounded(downstream.Stop))
	app, err := posp.New(posp.Options{Config: cfg, HSM: cluster, Hosts: []host.Host{downstream}, Log: log, Registry: registry})
	if err != nil {
		return err
	}
	s.later(bounded(app.Stop))
	return app.Start(ctx)
}

// startProfile begins a CPU profile; an empty path means none.
func (s *system) startProfile(path string) error {
	if path == "" {
		return nil
	}
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("CPU profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		_ = f.Close() // the profile is what failed
		return fmt.Errorf("CPU profile: %w", err)
	}
	s.profile = f
	s.later(func() error { s.stopProfile(); return nil })
	return nil
}

// stopProfile ends the profile, if one runs.
func (s *system) stopProfile() {
	if s.profile == nil {
		return
	}
	pprof.StopCPUProfile()
	_ = s.profile.Close() // StopCPUProfile has written everything
	s.profile = nil
}
