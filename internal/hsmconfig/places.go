package hsmconfig

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/internal/service"
)

// Joining gives the check of a member that did not come with the configuration: one that an operator adds or that a saved list names. It is
// CheckSpec, and the member must be in one of Places. What was configured is a place by itself. A library is code that this service runs, so
// without Places those of configured members are the only ones.
func (c Config) Joining(profile service.Profile, configured []member.Spec) func(member.Spec) error {
	places := slices.Clone(c.Places)
	for _, s := range configured {
		places = append(places, placeOf(s))
	}
	return func(s member.Spec) error {
		if err := c.CheckSpec(profile, s); err != nil {
			return err
		}
		place := placeOf(s)
		if len(c.Places) == 0 && !filepath.IsAbs(place) || slices.ContainsFunc(places, func(p string) bool { return within(place, p) }) {
			return nil
		}
		return fmt.Errorf("hsm.members: %s: %s is not among the places where devices of this group may be: add it to hsm.places of the configuration", s.Name, place)
	}
}

// placeOf is where a member is: the host of its address, or the path of its library.
func placeOf(s member.Spec) string {
	if filepath.IsAbs(s.Addr) {
		return filepath.Clean(s.Addr)
	}
	host, _, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return s.Addr
	}
	return host
}

// within says that a place is a named one, or an address in a named network.
func within(place, named string) bool {
	if filepath.IsAbs(named) || filepath.IsAbs(place) {
		return filepath.Clean(named) == place
	}
	if ip, err := netip.ParseAddr(place); err == nil {
		if network, err := netip.ParsePrefix(named); err == nil {
			return network.Contains(ip.Unmap())
		}
		other, err := netip.ParseAddr(named)
		return err == nil && other.Unmap() == ip.Unmap()
	}
	return strings.EqualFold(place, named)
}

// checkPlace refuses a place that could not be meant.
func checkPlace(p string) error {
	_, network := netip.ParsePrefix(p)
	switch {
	case network == nil || filepath.IsAbs(p):
		return nil
	case p == "" || strings.ContainsAny(p, "/ *"):
		return fmt.Errorf("hsm.places: %q is neither a network (10.3.0.0/24), nor an address or host name, nor the path of a library", p)
	}
	if _, err := netip.ParseAddr(p); err != nil && strings.Contains(p, ":") {
		return fmt.Errorf("hsm.places: %q: leave the port out, places are hosts and networks", p)
	}
	return nil
}
