package hsmclient

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyward/keyward/hsmclient/exchangelog"
	"github.com/keyward/keyward/hsmclient/member"
)

// housekeeping is how often standby, forecast and queue are looked at.
const housekeeping = 100 * time.Millisecond

// Cluster offers the capabilities of package command over the members of its LMK domains. It is safe for concurrent use.
// Use it once: New, Start, Stop.
type Cluster struct {
	cfg     Config
	metrics *metrics
	history *history
	sweeper sweeper
	pools   map[string]*pool // by domain; the map itself never changes

	monitoring atomic.Bool
	journaling atomic.Bool
	serials    *exchangelog.Serials
	watchers   watchers

	mu      sync.Mutex // guards all below; never held while waiting. It is taken before a pool's lock
	nodes   map[string]*node
	names   []string // of nodes, in the order of adding
	started bool
	stopped bool
	running bool
	since   time.Time       // of running
	life    context.Context //nolint:containedctx // The life of the members, which operations extend to new ones.
	cancel  context.CancelFunc
	quiet   context.CancelFunc // ends what goes on after the members have ended
	told    sync.WaitGroup
}

// New checks the configuration; nothing is connected before Start.
func New(cfg Config) (*Cluster, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Cluster{
		cfg: cfg, history: newHistory(), pools: map[string]*pool{}, nodes: map[string]*node{}, running: true, since: time.Now(),
		serials: exchangelog.NewSerials(cfg.Instance, time.Now()),
	}
	c.sweeper.init()
	c.monitoring.Store(true)
	s, can := cfg.Journal.(switchable)
	c.journaling.Store(cfg.Journal != nil && (!can || s.On()))
	for _, d := range cfg.Domains {
		c.pools[d.Name] = newPool(c, d)
		if d.Canary.IsZero() {
			cfg.Log.Warn("LMK domain without a canary key: its HSMs are admitted by diagnosis, firmware and the form of their keys alone, and one that computes wrongly is not found out", "domain", d.Name)
		}
	}
	for _, spec := range cfg.Members {
		if err := c.insert(spec); err != nil {
			return nil, fmt.Errorf("hsm cluster %s: %w", cfg.Name, err)
		}
	}
	if c.metrics, err = newMetrics(c); err != nil {
		return nil, fmt.Errorf("hsm cluster %s: %w", cfg.Name, err)
	}
	return c, nil
}

// insert makes a member of the configuration.
func (c *Cluster) insert(spec member.Spec) error {
	n, err := c.newNode(spec)
	if err != nil {
		return err
	}
	return c.join(n)
}

// Start begins to connect to all members and returns at once; Wait tells when one is admitted. The end of ctx does not stop
// the cluster: Stop does.
func (c *Cluster) Start(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.started || c.stopped {
		return fmt.Errorf("hsm cluster %s: started twice, or after stop", c.cfg.Name)
	}
	c.started = true
	c.since = time.Now()
	c.life, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	quiet, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c.quiet = cancel
	c.told.Go(func() { c.tell(quiet) })
	c.told.Go(func() { c.sweeper.run(quiet, c) })
	c.told.Go(func() { c.keepHouse(quiet) })
	for _, name := range c.names {
		c.nodes[name].begin(c.life)
	}
	return nil
}

// Stop refuses new commands, waits for those in progress until ctx ends, and closes the connections; what is still under way
// then fails. It may be called before Start and more than once.
func (c *Cluster) Stop(ctx context.Context) error {
	c.mu.Lock()
	started, again := c.started, c.stopped
	c.stopped, c.running = true, false
	nodes := slices.Collect(maps.Values(c.nodes))
	c.mu.Unlock()
	err := c.close(ctx)
	for _, p := range c.pools {
		p.end()
	}
	if started {
		c.cancel()
	}
	errs := make([]error, len(nodes))
	var ending sync.WaitGroup
	for i, n := range nodes {
		ending.Go(func() { errs[i] = n.finish(ctx) })
	}
	ending.Wait()
	if started {
		c.quiet()
		c.told.Wait()
	}
	if !again {
		c.metrics.unregister()
	}
	if err != nil {
		return fmt.Errorf("hsm cluster %s: stopped with commands in progress: %w", c.cfg.Name, err)
	}
	return errors.Join(errs...)
}

// close refuses new commands and waits for those in progress.
func (c *Cluster) close(ctx context.Context) error {
	for _, p := range c.pools {
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
	}
	var err error
	for _, p := range c.pools {
		if e := p.until(ctx, func() bool { return p.running == 0 }); e != nil {
			err = e
		}
	}
	return err
}

// end turns away who still waits: no place will come free.
func (p *pool) end() {
	p.mu.Lock()
	defer p.unlock()
	p.ended = true
	for i := range p.waiting {
		for p.waiting[i].head != nil {
			p.turnAway(p.waiting[i].head, errStopped)
		}
	}
}

// Wait returns nil as soon as the default domain has a member that gets traffic, else why it has none when ctx ends.
func (c *Cluster) Wait(ctx context.Context) error {
	p := c.pools[c.cfg.DefaultDomain]
	stopped := false
	err := p.until(ctx, func() bool {
		stopped = p.closed
		return stopped || len(p.tiers) > 0
	})
	switch {
	case stopped:
		return errStopped
	case err != nil:
		p.mu.Lock()
		defer p.mu.Unlock()
		return fmt.Errorf("hsm cluster %s: %w", c.cfg.Name, p.noMember())
	}
	return nil
}

// keepHouse looks after what changes with time alone.
func (c *Cluster) keepHouse(ctx context.Context) {
	tick := time.NewTicker(housekeeping)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			for _, p := range c.pools {
				p.mu.Lock()
				engaged := p.standby.engaged
				p.settleStandby(now)
				if engaged != p.standby.engaged {
					p.arrange()
				}
				p.sample(now)
				p.peak = p.inFlight + p.waitingNow()
				p.dispatch()
				p.unlock()
			}
		}
	}
}

// node finds a member.
func (c *Cluster) node(name string) (*node, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.nodes[name]; n != nil {
		return n, nil
	}
	return nil, member.Refuse(member.NotFound, "list the members to see their names", "there is no member %q", name)
}

// journal gives the journal while it takes exchanges.
func (c *Cluster) journal() Journal {
	if _, counts := c.cfg.Journal.(switchable); c.cfg.Journal == nil || !counts && !c.journaling.Load() {
		return nil
	}
	return c.cfg.Journal
}
