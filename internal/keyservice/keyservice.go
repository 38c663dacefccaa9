// Package keyservice is the only part of Keyward that may derive card keys and export them into cards (P1, P2). It runs as a
// process of its own, with its own HSM group and database role, and serves HTTPS to clients with certificates. It does
// nothing without an order that the registry signed. The page to read first is flow.go.
package keyservice

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/internal/hsmops"
	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/internal/keystore"
	"github.com/keyward/keyward/internal/pgpool"
	"github.com/keyward/keyward/internal/rewrap"
	"github.com/keyward/keyward/internal/service"
)

const (
	stopTime = 3 * time.Second // of each part
	// drainTime lets requests under way end: longer than flowTimeout, so that none is cut off in the middle.
	drainTime = 14 * time.Second
	// startWait bounds the wait for the database at start.
	startWait = 45 * time.Second
	// flowTimeout bounds one request: a handful of HSM commands and commits. The relay waits 15 s.
	flowTimeout = 12 * time.Second
)

// HSM is what the key service needs of the issuing group.
type HSM interface {
	command.Diversifier
	command.CardExporter
	command.Checker
	command.Diagnoser
}

// MigrationHSM is what moving keys between LMK domains needs. The group must hold both domains, and its devices must allow check values in both.
type MigrationHSM interface {
	command.Checker
	command.LMKTranslator
	command.ZoneExchanger
}

// Options are the parts that the wiring chooses.
type Options struct {
	Config Config
	HSM    HSM
	// Migration is the group of rewrap.hsm; nil: keys can only be moved inside a device of the issuing group that holds both LMKs.
	Migration MigrationHSM
	// Operation is that of the issuing group; nil: it is not operated here.
	Operation *hsmops.Handler
	Log       *slog.Logger
	Registry  *prometheus.Registry
	Now       func() time.Time // default time.Now
}

// App is one key service. Use it once: New, Start, Stop.
type App struct {
	opt     Options
	life    *service.Lifecycle
	ready   *service.Ready
	metrics *metrics
	server  *httpapi.Server

	store    *keystore.Store   // set by Start
	moves    *rewrap.Engine    // set by Start
	orderKey ed25519.PublicKey // set by Start
	checked  sync.Map          // vouched: parents that the HSM has vouched for
}

// New prepares an app; nothing runs before Start.
func New(opt Options) (*App, error) {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.HSM == nil || opt.Log == nil || opt.Registry == nil {
		return nil, errors.New("key service: HSM, log and metrics registry are required")
	}
	m, err := newMetrics(opt.Registry)
	if err != nil {
		return nil, err
	}
	return &App{opt: opt, life: service.NewLifecycle(opt.Log), ready: &service.Ready{}, metrics: m}, nil
}

// Start opens the database, then listens. An HSM that is away makes the service not ready, and does not keep it from starting.
func (a *App) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	cfg := a.opt.Config
	var err error
	if a.orderKey, err = cfg.orderKey(); err != nil {
		return err
	}
	pool, err := pgpool.FromConfig(ctx, cfg.Database)
	if err != nil {
		return err
	}
	a.life.Add("database connections", stopTime, func(context.Context) error { pool.Close(); return nil })
	a.store = keystore.New(pool)
	if a.moves, err = rewrap.New(a.rewrapConfig(pool)); err != nil {
		return err
	}
	if err := a.moves.Start(ctx); err != nil {
		return err
	}
	a.life.Add("moving keys", stopTime, a.moves.Stop)
	a.ready.Add("database", pool.Ping)
	a.ready.Add("hsm", func(ctx context.Context) error { _, err := a.opt.HSM.Diagnose(ctx); return err })

	router, err := a.routes()
	if err != nil {
		return err
	}
	if cfg.Listen.TLS == nil {
		return errors.New("listen.tls: the key service serves clients with certificates only")
	}
	tls, err := httpapi.ServerTLS(cfg.Listen.TLS.Cert, string(cfg.Listen.TLS.Key), cfg.Listen.TLS.CA)
	if err != nil {
		return err
	}
	a.server, err = httpapi.NewServer(httpapi.ServerConfig{Name: "key service", Addr: cfg.Listen.Addr, TLS: tls, Handler: router, Log: a.opt.Log})
	if err != nil {
		return err
	}
	if err := a.server.Start(ctx); err != nil {
		return err
	}
	a.life.Add("key service", drainTime, a.server.Stop)
	a.life.Go("key service listener", stopTime, a.server.Wait)
	return nil
}

// Addr is the address listened on, nil before Start.
func (a *App) Addr() net.Addr {
	if a.server == nil {
		return nil
	}
	return a.server.Addr()
}

// Stop answers what was accepted and stops the parts in reverse order.
func (a *App) Stop(ctx context.Context) error {
	a.ready.Drain()
	return a.life.Stop(ctx)
}

// Wait returns when ctx ends, or with the error of a part that the service cannot go on without.
func (a *App) Wait(ctx context.Context) error { return a.life.Wait(ctx) }
