package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyward/keyward/hsmclient"
	hsmcommand "github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/drill"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/hsmclient/exchangelog"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/hsmclient/pkcs11"
	"github.com/keyward/keyward/hsmclient/racal"
	"github.com/keyward/keyward/internal/hsmconfig"
	"github.com/keyward/keyward/internal/hsmlist"
	"github.com/keyward/keyward/internal/hsmops"
	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/internal/posp/route"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/keys"
)

// drivers are the device families, by the name that a configuration gives them.
var drivers = map[string]driver.Maker{"racal": racal.Make, "pkcs11": pkcs11.New}

// What the services ask of their HSMs. A configuration whose drivers can do less is refused at start.
const (
	onlineNeeds  = hsmcommand.CanMakeWorkKey | hsmcommand.CanTranslatePIN | hsmcommand.CanMAC | hsmcommand.CanDecryptTrack
	issuingNeeds = hsmcommand.CanDiversify | hsmcommand.CanExportForCard | hsmcommand.CanCheck
)

// hsmStop bounds the stop of each part of a group.
const hsmStop = 3 * time.Second

// hsmGroup says which group is wired, for whom.
type hsmGroup struct {
	name, instance string
	profile        service.Profile
	cfg            hsmconfig.Config
	needs          hsmcommand.Capability
	database       service.DatabaseConfig
	// Who may operate it, and where the listener asks, who may read.
	operators, relays, readers []string
}

// runningGroup is a group with its operation.
type runningGroup struct {
	*hsmclient.Cluster
	operation *hsmops.Handler
}

// start brings a group up: the journal, the list of members, the cluster, then its operation. Everything is stopped by parts.
func (g hsmGroup) start(ctx context.Context, log *slog.Logger, reg prometheus.Registerer, parts *service.Lifecycle) (*runningGroup, error) {
	journal, err := g.journal(ctx, log, reg, parts)
	if err != nil {
		return nil, err
	}
	specs, err := g.cfg.Specs(g.profile)
	if err != nil {
		return nil, err
	}
	joining := g.cfg.Joining(g.profile, specs)
	var list *hsmlist.List
	var onSwitch func(member.Switch)
	if g.cfg.List.Shared {
		if list, specs, err = g.list(ctx, specs, log, reg); err != nil {
			return nil, err
		}
		parts.Add("hsm list", hsmStop, list.Stop)
		onSwitch = list.OnSwitch
	}
	cluster, err := g.cluster(specs, journal, onSwitch, log, reg)
	if err != nil {
		return nil, err
	}
	if err := cluster.Start(ctx); err != nil {
		return nil, err
	}
	parts.Add("hsm", hsmStop, cluster.Stop)
	drills, err := drill.New(drill.Config{Cluster: cluster, Ask: g.ask(cluster), Dir: g.cfg.Drills.Dir, Keep: g.cfg.Drills.Keep, Log: log})
	if err != nil {
		return nil, err
	}
	parts.Add("hsm drills", hsmStop, drills.Close)
	opt := hsmops.Options{
		Cluster: cluster, Operators: g.operators, Relays: g.relays, Readers: g.readers,
		Complete: func(s member.Spec) member.Spec { return g.cfg.Complete(g.profile, s) },
		Check:    joining, More: []func(hsmops.Routes){hsmops.DrillRoutes(drills)}, Log: log,
	}
	if list != nil {
		list.Start(ctx, cluster)
		opt.List = list
	}
	operation, err := hsmops.New(opt)
	if err != nil {
		return nil, err
	}
	return &runningGroup{cluster, operation}, nil
}

// journal starts the journal of exchanges, nil where none is configured.
func (g hsmGroup) journal(ctx context.Context, log *slog.Logger, reg prometheus.Registerer, parts *service.Lifecycle) (hsmclient.Journal, error) {
	c := g.cfg.Journal
	if c.Dir == "" {
		return nil, nil //nolint:nilnil // No journal is an answer, not a fault.
	}
	w, err := exchangelog.New(exchangelog.Config{
		Dir: c.Dir, Group: g.name, Instance: g.instance, Off: c.Off, FileBytes: c.FileBytes, FileAge: c.FileAge.Std(),
		KeepFiles: c.KeepFiles, KeepBytes: c.KeepBytes, KeepAge: c.KeepAge.Std(), Log: log, Registerer: reg,
	})
	if err != nil {
		return nil, fmt.Errorf("hsm.journal: %w", err)
	}
	if err := w.Start(ctx); err != nil {
		return nil, fmt.Errorf("hsm.journal: %w", err)
	}
	parts.Add("hsm journal", hsmStop, w.Stop)
	return w, nil
}

// list opens the shared list and gives the members to begin with.
func (g hsmGroup) list(ctx context.Context, configured []member.Spec, log *slog.Logger, reg prometheus.Registerer) (*hsmlist.List, []member.Spec, error) {
	url, err := g.database.URLFile.Read()
	if err != nil {
		return nil, nil, fmt.Errorf("database.url_file: %w", err)
	}
	defer url.Wipe()
	list, err := hsmlist.New(hsmlist.Config{
		Group: g.name, Instance: g.instance, URL: string(url.Reveal()), LocalCopy: g.cfg.List.LocalCopy, Retention: g.cfg.List.Retention.Std(),
		Check: g.cfg.Joining(g.profile, configured), Log: log, Registerer: reg,
	})
	if err != nil {
		return nil, nil, err
	}
	specs, err := list.Load(ctx, configured)
	if err != nil {
		return nil, nil, errors.Join(err, list.Stop(ctx))
	}
	return list, specs, nil
}

// cluster makes the cluster of the group; it is not started.
func (g hsmGroup) cluster(specs []member.Spec, journal hsmclient.Journal, onSwitch func(member.Switch), log *slog.Logger, reg prometheus.Registerer) (*hsmclient.Cluster, error) {
	c := g.cfg
	domains := []hsmclient.Domain{{
		Name: c.Domain, LMKCheck: c.LMKCheck, Firmware: c.Firmware, Canary: c.Canary.Key(c.Domain), Needs: g.needs, Floor: c.Floor,
	}}
	for _, d := range c.Domains {
		needs := g.needs
		if d.Storage {
			needs = 0
		}
		domains = append(domains, hsmclient.Domain{Name: d.Name, LMKCheck: d.LMKCheck, Firmware: d.Firmware, Canary: d.Canary.Key(d.Name), Needs: needs, Floor: d.Floor})
	}
	production := g.profile == service.Production
	return hsmclient.New(hsmclient.Config{
		Name: g.name, Instance: g.instance, DefaultDomain: c.Domain, Domains: domains, Members: specs, Drivers: drivers,
		RefuseTestLMK: production, Timeout: c.Timeout.Std(),
		Probing: hsmclient.Probing{
			Every: c.Probing.Every.Std(), Timeout: c.Probing.Timeout.Std(), BackoffMin: c.Probing.BackoffMin.Std(), BackoffMax: c.Probing.BackoffMax.Std(),
			AdmitTimes: c.Probing.AdmitTimes,
		},
		Readmit: c.Readmit, HoldDown: c.HoldDown.Std(), MaxPriority: c.MaxPriority, MaxMembers: c.MaxMembers, MaxWaiting: c.MaxWaiting, Depth: c.Depth,
		Journal: journal, OnSwitch: onSwitch, Log: log, Registerer: reg,
	})
}

// ask is the harmless request of a drill's own load: the check value of the domain's canary. Nil where no domain has one.
func (g hsmGroup) ask(cluster *hsmclient.Cluster) func(ctx context.Context, domain string) error {
	canaries := map[string]keys.Wrapped{}
	if g.cfg.Canary != nil {
		canaries[g.cfg.Domain] = g.cfg.Canary.Key(g.cfg.Domain)
	}
	for _, d := range g.cfg.Domains {
		if d.Canary != nil {
			canaries[d.Name] = d.Canary.Key(d.Name)
		}
	}
	if len(canaries) == 0 {
		return nil
	}
	return func(ctx context.Context, domain string) error {
		key, ok := canaries[domain]
		if !ok {
			return fmt.Errorf("LMK domain %s has no canary key to ask for", domain)
		}
		_, err := cluster.CheckValue(hsmcommand.WithPriority(ctx, hsmcommand.Background), key) // whatever else waits goes first
		return err
	}
}

// serveOperation serves the operation on a listener of its own, over mutual TLS, and the routing beside it: this is posp's listener for
// operators with certificates.
func serveOperation(ctx context.Context, o hsmconfig.Operation, h *hsmops.Handler, routing *route.Handler, log *slog.Logger, parts *service.Lifecycle) error {
	if o.Addr == "" {
		return nil
	}
	doc, err := hsmops.Document(hsmops.OpenAPI, hsmops.DrillOpenAPI)
	if err != nil {
		return err
	}
	if doc, err = route.Document(doc); err != nil {
		return err
	}
	router, err := httpapi.NewRouter(log, doc, nil)
	if err != nil {
		return fmt.Errorf("hsm operation: %w", err)
	}
	h.Mount(router)
	routing.Mount(router)
	tls, err := httpapi.ServerTLS(o.TLS.Cert, string(o.TLS.Key), o.TLS.CA)
	if err != nil {
		return fmt.Errorf("hsm_operation.tls: %w", err)
	}
	server, err := httpapi.NewServer(httpapi.ServerConfig{Name: "HSM operation", Addr: o.Addr, TLS: tls, Handler: router, Log: log})
	if err != nil {
		return err
	}
	if err := server.Start(ctx); err != nil {
		return err
	}
	parts.Add("HSM operation", hsmStop, server.Stop)
	parts.Go("HSM operation listener", hsmStop, server.Wait)
	return nil
}
