package posp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyward/keyward/internal/hsmops"
	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/internal/ledger"
	"github.com/keyward/keyward/internal/link"
	"github.com/keyward/keyward/internal/pgpool"
	"github.com/keyward/keyward/internal/posp/device"
	"github.com/keyward/keyward/internal/posp/domains"
	"github.com/keyward/keyward/internal/posp/host"
	"github.com/keyward/keyward/internal/posp/journal"
	"github.com/keyward/keyward/internal/posp/reverse"
	"github.com/keyward/keyward/internal/posp/route"
	"github.com/keyward/keyward/internal/posp/seal"
	"github.com/keyward/keyward/internal/posp/workkeys"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/internal/spool"
	"github.com/keyward/keyward/iso/unionpay/profile"
)

// Bounds of the parts' stops, last started first. Together they stay below what supervisors allow (30 s).
const (
	drainTime = 12 * time.Second // terminals: every accepted request is answered
	stopTime  = 3 * time.Second  // everything else
	// startWait bounds the wait for HSM and database at start: longer than their own start on a slow machine.
	startWait = 45 * time.Second
)

// Options are the parts that the wiring (cmd/posp) chooses.
type Options struct {
	Config Config
	HSM    HSM
	Hosts  []host.Host
	Relay  http.Handler // to the key service; nil serves no card issuing
	// Operation is that of the HSM cluster. The operations API shows what it shows; its changes are for operators with certificates.
	Operation *hsmops.Handler
	// Routing serves the rules that choose a host, on the operations API and wherever else it is mounted; nil: nowhere.
	Routing  *route.Handler
	Log      *slog.Logger
	Registry *prometheus.Registry
	Now      func() time.Time
}

// App is one posp. Use it once: New, Start, Stop.
type App struct {
	opt       Options
	life      *service.Lifecycle
	ready     *service.Ready
	flow      *flow
	terminals []*link.Server
	ops       *httpapi.Server
	stopping  chan struct{} // closed by Stop: ends event streams
	stopOnce  sync.Once
}

// New prepares an app; nothing runs before Start.
func New(opt Options) (*App, error) {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	m, err := newMetrics(opt.Registry)
	if err != nil {
		return nil, err
	}
	downstreams, err := newHosts(opt.Hosts)
	if err != nil {
		return nil, err
	}
	profiles, err := profile.NewList(opt.Config.Profiles)
	if err != nil {
		return nil, err
	}
	admission, err := newAdmission(opt.Config.Flow, opt.Registry, opt.Now)
	if err != nil {
		return nil, err
	}
	life := service.NewLifecycle(opt.Log)
	return &App{
		opt: opt, life: life, ready: &service.Ready{}, stopping: make(chan struct{}),
		flow: &flow{
			fail: life.Fail,
			cfg:  opt.Config.Flow, profiles: profiles, strict: opt.Config.Profile == service.Production,
			pins: newPINRates(opt.Config.Flow.PINsPerCard, opt.Config.Flow.PINsPerTerminal), hsm: opt.HSM, hosts: downstreams, metrics: m, events: newEvents(), log: opt.Log, now: opt.Now,
			admission: admission, handovers: newHandovers(),
		},
	}, nil
}

// Start brings the parts up in the order in which they need each other; the order is the reading order. It stays one function
// because each step needs values of earlier ones.
func (a *App) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	cfg, f, log, now := a.opt.Config, a.flow, a.opt.Log, a.opt.Now

	// The database, as posp's role.
	url, err := cfg.Database.URLFile.Read()
	if err != nil {
		return fmt.Errorf("database.url_file: %w", err)
	}
	pool, err := pgpool.Open(ctx, string(url.Reveal()), cfg.Database.MaxConnections)
	if err != nil {
		return err
	}
	a.life.Add("database connections", stopTime, func(context.Context) error { pool.Close(); return nil })
	a.ready.Add("database", pool.Ping)

	// What this posp is configured for, so that no key moves to an LMK domain in which it could not be used here (C7).
	told := domains.New(pool, cfg.Instance, cfg.domains(), log)
	if err := told.Start(ctx); err != nil {
		return err
	}
	a.life.Add("domains", stopTime, told.Stop)

	// Working keys in memory, restored, so that nobody has to sign on again.
	f.keys = workkeys.New(pool, log, now)
	if err := f.keys.Start(ctx); err != nil {
		return err
	}
	a.life.Add("working keys", stopTime, f.keys.Stop)

	// The device table. A terminal that loses its right to its keys loses the keys.
	f.devices = device.NewTable(f.keys.Revoke)
	follower := device.NewFollower(f.devices, string(url.Reveal()), log, now)
	if err := follower.Start(ctx); err != nil {
		return err
	}
	f.reload = follower.Reload
	a.life.Add("device table", stopTime, follower.Stop)

	// The sealing keys come out of the HSM: without it nothing can be sealed, so nothing may be accepted.
	if f.seal, err = a.sealer(ctx); err != nil {
		return err
	}
	a.ready.Add("hsm", a.probeHSM)

	// Reversals before the journal, because the journal's recovery hands over what is owed.
	if f.reversals, err = reverse.New(f.hosts.find, log, a.opt.Registry, now); err != nil {
		return err
	}
	f.journal, err = journal.New(journal.Config{
		Instance: cfg.Instance, Ack: cfg.Journal.Ack, Store: ledger.New(pool), Location: cfg.Flow.location, Owed: f.reversals.Add,
		Spool: spool.Config{Dir: cfg.Journal.Dir, Log: log, Metrics: a.opt.Registry}, Log: log, Metrics: a.opt.Registry, Now: now,
	})
	if err != nil {
		return err
	}
	if err := f.journal.Start(ctx); err != nil {
		return err
	}
	a.life.Add("journal", stopTime, f.journal.Stop)
	a.ready.Add("journal", func(context.Context) error { return f.journal.Admit() })
	f.reversals.Start(ctx, f.seal)
	a.life.Add("reversals", stopTime, f.reversals.Stop)
	a.life.Go("journal watch", stopTime, a.watchJournal)
	a.life.Go("housekeeping", stopTime, func(ctx context.Context) error { return a.housekeep(ctx, ledger.New(pool)) })

	// The rules that choose a host, followed from here on.
	if err := a.startRouting(ctx, pool); err != nil {
		return err
	}
	a.ready.Add("hosts", func(context.Context) error { return f.hosts.ready() })

	// The operators' listener, then, last, the terminals: whoever is let in finds everything in place.
	if err := a.startOps(ctx); err != nil {
		return err
	}
	return a.startTerminals(ctx)
}

// Stop answers what was accepted and stops the parts in reverse order.
func (a *App) Stop(ctx context.Context) error {
	a.ready.Drain()
	a.stopOnce.Do(func() { close(a.stopping) })
	return a.life.Stop(ctx)
}

// Wait returns when ctx ends, or with the error of a part that the service cannot go on without.
func (a *App) Wait(ctx context.Context) error { return a.life.Wait(ctx) }

// Events are the messages as they happen.
func (a *App) Events() *Events { return a.flow.events }

// sealer waits, within the start's bound, for the HSM to compute the sealing keys.
func (a *App) sealer(ctx context.Context) (*seal.Sealer, error) {
	for {
		key := a.opt.Config.SealKey.Keys(sealUsage)
		s, err := seal.New(ctx, a.opt.HSM, key[0], key[1:]...)
		if err == nil {
			return s, nil
		}
		a.opt.Log.WarnContext(ctx, "waiting for the HSM", "error", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil, fmt.Errorf("the HSM does not answer; check hsm.members: %w", err)
		}
	}
}

// probeHSM asks the HSM for something that every member of the group can do.
func (a *App) probeHSM(ctx context.Context) error {
	if w, ok := a.opt.HSM.(interface{ Wait(context.Context) error }); ok {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		return w.Wait(ctx)
	}
	return nil
}

// watchJournal stops the service when the spool has failed for good: after a failed fsync nothing can be promised.
func (a *App) watchJournal(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-a.flow.journal.Failed():
		return errors.New("the journal's disk failed: the instance stops before it promises what it cannot keep")
	}
}

const (
	// housekeepingEvery is how often partitions are made ahead and settled days' sealed data are erased.
	housekeepingEvery = time.Hour
	// keepSealedDays is how long an answered transaction can still be reversed by its terminal.
	keepSealedDays = 2
	// keepKeysDays is how many business dates the originals of reversals are looked for, and one more; the duplicate check needs two.
	keepKeysDays = 9
	// keepUsesDays is how long it is known what was taken of an original: a refund may come up to originalDays after it.
	keepUsesDays    = 366
	partitionsAhead = 8
)

func (a *App) housekeep(ctx context.Context, store *ledger.Store) error {
	tick := time.NewTicker(housekeepingEvery)
	defer tick.Stop()
	for {
		today := a.opt.Now().In(a.opt.Config.Flow.location)
		err := store.EnsurePartitions(ctx, today, partitionsAhead)
		_, purgeErr := store.PurgeSecrets(ctx, today.AddDate(0, 0, -keepSealedDays))
		_, keysErr := store.PurgeKeys(ctx, today.AddDate(0, 0, -keepKeysDays))
		_, usesErr := store.PurgeUses(ctx, today.AddDate(0, 0, -keepUsesDays))
		_, setsErr := a.flow.keys.Purge(ctx)
		if err = errors.Join(err, purgeErr, keysErr, usesErr, setsErr); err != nil && ctx.Err() == nil {
			a.opt.Log.WarnContext(ctx, "housekeeping failed, will be tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
