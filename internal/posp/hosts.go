package posp

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyward/keyward/internal/posp/host"
	"github.com/keyward/keyward/internal/posp/route"
	"github.com/keyward/keyward/internal/txn"
)

// hosts are the downstreams by name, in the order of the configuration.
type hosts struct {
	list   []host.Host
	byName map[string]host.Host
	rules  func() *route.Table // in force; set by startRouting
	zone   *time.Location      // in which the rules mean times of day
}

func newHosts(list []host.Host) (*hosts, error) {
	h := &hosts{list: list, byName: map[string]host.Host{}}
	for _, one := range list {
		if h.byName[one.Name()] != nil {
			return nil, fmt.Errorf("host %q is configured twice", one.Name())
		}
		h.byName[one.Name()] = one
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("no host is configured; add one under hosts")
	}
	return h, nil
}

// find gives a host by name.
func (h *hosts) find(name string) (host.Host, bool) {
	found, ok := h.byName[name]
	return found, ok
}

// ready says that some host can take transactions; a reason otherwise.
func (h *hosts) ready() error {
	_, err := h.firstReady(h.list)
	return err
}

// choose is the routing: a pure function of the request, the rules in force and the hosts' readiness. The first ready host of those that the
// rules name gets the transaction.
func (h *hosts) choose(req *txn.Request) (host.Host, error) {
	table := h.rules()
	rule, names := table.Choose(route.FactsOf(req, req.ReceivedAt.In(h.zone)))
	list := make([]host.Host, 0, len(names))
	for _, name := range names {
		if one, ok := h.find(name); ok { // the rules were checked against the configured hosts
			list = append(list, one)
		}
	}
	found, err := h.firstReady(list)
	if err != nil && rule != "" {
		err = fmt.Errorf("routing version %d, rule %q: %w", table.Version, rule, err)
	}
	return found, err
}

func (h *hosts) firstReady(list []host.Host) (host.Host, error) {
	var first error
	for _, one := range list {
		err := one.Ready()
		if err == nil {
			return one, nil
		}
		if first == nil {
			first = fmt.Errorf("host %s: %w", one.Name(), err)
		}
	}
	return nil, first
}

// startRouting has the rules followed and served. A host is named in them as it is in the configuration.
func (a *App) startRouting(ctx context.Context, pool *pgxpool.Pool) error {
	h := a.flow.hosts
	var names []string
	for _, one := range h.list {
		names = append(names, one.Name())
	}
	book, err := route.New(route.Config{
		Pool: pool, Instance: a.opt.Config.Instance, Hosts: names, Log: a.opt.Log, Registerer: a.opt.Registry, Now: a.opt.Now,
	})
	if err != nil {
		return err
	}
	if err := book.Start(ctx); err != nil {
		return err
	}
	a.life.Add("routing", stopTime, book.Stop)
	h.rules, h.zone = book.Table, a.opt.Config.Flow.location
	if a.opt.Routing != nil {
		a.opt.Routing.Serve(book, h.zone, func(name string) error {
			one, ok := h.find(name)
			if !ok {
				return errors.New("not configured")
			}
			return one.Ready()
		})
	}
	return nil
}
