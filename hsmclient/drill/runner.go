package drill

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/keyward/keyward/hsmclient/member"
)

// Runner runs drills on one cluster, one at a time. It is safe for concurrent use.
type Runner struct {
	cfg   Config
	store *store
	newID func(now time.Time) string

	mu      sync.Mutex
	current *run
	closed  bool
}

// New makes a runner and reads which reports are kept.
func New(cfg Config) (*Runner, error) {
	if cfg.Cluster == nil {
		return nil, errors.New("drill: no cluster given")
	}
	if cfg.Keep <= 0 {
		cfg.Keep = defaultKeep
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s, err := openStore(cfg.Dir, cfg.Keep)
	if err != nil {
		return nil, err
	}
	return &Runner{cfg: cfg, store: s, newID: timeID}, nil
}

// timeID is readable, sorts by time, and is unique across processes.
func timeID(now time.Time) string {
	var b [2]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return now.UTC().Format("20060102-150405-") + hex.EncodeToString(b[:])
}

// Start begins a drill and returns when it is under way. It returns a *member.Refusal when the order makes no sense, would harm service,
// or when another drill runs; then nothing has changed.
func (r *Runner) Start(act member.Act, req Request) (Progress, error) {
	req = req.withDefaults()
	if err := req.check(); err != nil {
		return Progress{}, err
	}
	if req.Load == LoadOn && r.cfg.Ask == nil {
		return Progress{}, member.Refuse(member.Invalid, "use load off, or configure a canary key", "there is no key to make own load with")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return Progress{}, member.Refuse(member.Conflict, "start it again when the service is up", "the service is stopping")
	case r.current != nil && !r.current.over():
		return Progress{}, member.Refuse(member.Conflict, "wait for its end, or stop it", "drill %s of %s is running", r.current.id, r.current.target)
	}
	target, err := r.cfg.Cluster.Member(req.Member)
	if err != nil {
		return Progress{}, err
	}
	all := r.cfg.Cluster.Members()
	if err := safe(act, target, all); err != nil {
		return Progress{}, err
	}
	now := time.Now()
	d := newRun(r, act, req, target, all, r.newID(now), now)
	if err := r.store.save(d.report); err != nil {
		return Progress{}, err
	}
	r.cfg.Log.Warn("HSM drill begins", "drill", d.id, "member", req.Member, "kind", string(req.Kind), "by", act.By, "forced", act.Force)
	r.current = d
	ctx, cancel := context.WithCancel(context.Background()) // a drill outlives the request that orders it
	d.cancel = cancel
	go d.play(ctx)
	return d.progress(), nil
}

// Progress tells where a drill is, and renews its lease. For a drill that is over it gives the verdict.
func (r *Runner) Progress(id string) (Progress, error) {
	if d := r.running(id); d != nil {
		d.attend()
		return d.progress(), nil
	}
	rep, err := r.store.load(id)
	if err != nil {
		return Progress{}, err
	}
	return ended(rep), nil
}

// Stop ends a drill early: the fault ends before Stop returns, the member comes back as after any failure. A drill that is over stays as
// it is.
func (r *Runner) Stop(act member.Act, id string) (Progress, error) {
	d := r.running(id)
	if d == nil {
		rep, err := r.store.load(id)
		return ended(rep), err
	}
	by := act.By
	if act.Reason != "" {
		by += ": " + act.Reason
	}
	d.stopEarly("stopped by " + by)
	select {
	case <-d.cleared:
	case <-time.After(clearWait):
		return d.progress(), errors.New("drill: the fault could not be cleared in time: clear it at the member, or wait until it ends by itself")
	}
	return d.progress(), nil
}

// clearWait bounds how long Stop waits for a step of a drill to see it; a step looks at once.
const clearWait = 5 * time.Second

// Report gives the report of a drill that is over.
func (r *Runner) Report(id string) (Report, error) {
	if r.running(id) != nil {
		return Report{}, member.Refuse(member.Conflict, "wait for its end, or stop it", "drill %s is still running", id)
	}
	return r.store.load(id)
}

// List gives the kept drills, newest first.
func (r *Runner) List() []Progress {
	r.mu.Lock()
	current := r.current
	r.mu.Unlock()
	list := r.store.list()
	for i := range list {
		if current != nil && list[i].ID == current.id {
			list[i] = current.progress()
		}
	}
	return list
}

// Close ends a running drill: the fault is cleared, what was measured is saved. No drill starts afterwards.
func (r *Runner) Close(ctx context.Context) error {
	r.mu.Lock()
	r.closed = true
	d := r.current
	r.mu.Unlock()
	if d == nil {
		return nil
	}
	d.cancel()
	select {
	case <-d.done:
		return nil
	case <-ctx.Done():
		return errors.New("drill: the running drill did not end in time: the cluster ends the fault by itself")
	}
}

// running gives the drill if it is the one that runs now.
func (r *Runner) running(id string) *run {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current != nil && r.current.id == id && !r.current.over() {
		return r.current
	}
	return nil
}
