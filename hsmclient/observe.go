package hsmclient

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/member"
)

// watchers are those who want to hear of every request.
type watchers struct {
	mu   sync.Mutex
	list atomic.Pointer[[]*func(member.Outcome)] // replaced, never changed
}

// Observe calls fn for every request that ends until stop is called. fn is called from many goroutines, also for a moment after stop;
// it must return quickly.
func (c *Cluster) Observe(fn func(member.Outcome)) (stop func()) {
	w := &c.watchers
	change := func(do func(list []*func(member.Outcome)) []*func(member.Outcome)) {
		w.mu.Lock()
		defer w.mu.Unlock()
		var list []*func(member.Outcome)
		if old := w.list.Load(); old != nil {
			list = slices.Clone(*old)
		}
		if list = do(list); len(list) == 0 {
			w.list.Store(nil)
			return
		}
		w.list.Store(&list)
	}
	change(func(list []*func(member.Outcome)) []*func(member.Outcome) { return append(list, &fn) })
	return func() {
		change(func(list []*func(member.Outcome)) []*func(member.Outcome) {
			return slices.DeleteFunc(list, func(f *func(member.Outcome)) bool { return f == &fn })
		})
	}
}

// observe counts a request that has ended and tells those who watch.
func (c *Cluster) observe(t *try, err error, began, ended time.Time) {
	c.metrics.observe(t.op, err, ended.Sub(began))
	list := c.watchers.list.Load()
	if list == nil {
		return
	}
	o := member.Outcome{
		Ended: ended, Took: ended.Sub(began), Domain: t.pool.cfg.Name, Repeated: t.repeated, Result: resultOf(t.parent, err), Drill: member.IsForDrill(t.parent),
		First: t.firstAsked, Last: t.lastAsked,
	}
	for _, fn := range *list {
		(*fn)(o)
	}
}

// count is observe for a request that no member was asked for.
func (c *Cluster) count(ctx context.Context, op operation, err error) {
	now := time.Now()
	t := &try{parent: ctx, op: op, pool: c.pools[c.cfg.DefaultDomain]}
	c.observe(t, err, now, now)
}

func resultOf(ctx context.Context, err error) string {
	switch {
	case err == nil:
		return results[0]
	case errors.Is(ctx.Err(), context.Canceled):
		return "cancelled"
	}
	return results[command.ClassOf(err)]
}

// domainNames lists the domains for people.
func (c *Cluster) domainNames() string {
	names := make([]string, 0, len(c.cfg.Domains))
	for _, d := range c.cfg.Domains {
		names = append(names, d.Name)
	}
	return strings.Join(names, ", ")
}
