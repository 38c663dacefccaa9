package posp

import (
	"fmt"

	"github.com/keyward/keyward/internal/posp/host"
	"github.com/keyward/keyward/internal/txn"
)

// hosts are the downstreams by name, in the order of the configuration.
type hosts struct {
	list   []host.Host
	byName map[string]host.Host
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

// choose is the routing: a pure function of the request and the hosts' readiness.
func (h *hosts) choose(*txn.Request) (host.Host, error) {
	var first error
	for _, one := range h.list {
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
