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
// without Places those of configured members are the only ones. In production the member's own word for its line does not count, see ownLine.
func (c Config) Joining(profile service.Profile, configured []member.Spec) func(member.Spec) error {
	places := slices.Concat(c.Places, c.PrivatePlaces)
	for _, s := range configured {
		places = append(places, placeOf(s))
	}
	ownLine := c.ownLine(configured)
	return func(s member.Spec) error {
		if err := c.CheckSpec(profile, s); err != nil {
			return err
		}
		place := placeOf(s)
		if (len(c.Places) > 0 || filepath.IsAbs(place)) && !among(place, places) {
			return fmt.Errorf("hsm.members: %s: %s is not among the places where devices of this group may be: add it to hsm.places of the configuration", s.Name, place)
		}
		if profile == service.Production {
			return ownLine(s)
		}
		return nil
	}
}

// ownLine refuses a line for which only the member itself stands. Who writes a saved list must not be able to declare a line private, or to
// choose the authority that proves the device: a plain line leads to a private place or to the host of a configured member on such a line, and
// the files of a connection by TLS are all those of TLS or all those of one configured member. server_name is empty, which is the host of the
// address, or the one that stands with these files: under an authority that signs others too, any other name would let any of them in.
func (c Config) ownLine(configured []member.Spec) func(member.Spec) error {
	private := slices.Clone(c.PrivatePlaces)
	var known []member.TLS
	if c.TLS != nil {
		known = append(known, *c.TLS.spec())
	}
	for _, s := range configured {
		switch {
		case s.TLS != nil:
			known = append(known, *s.TLS)
		case s.Private:
			private = append(private, placeOf(s))
		}
	}
	return func(s member.Spec) error {
		if s.TLS == nil {
			if place := placeOf(s); !filepath.IsAbs(place) && !among(place, private) {
				return fmt.Errorf("hsm.members: %s: the configuration does not declare the line to %s private: give the member tls, or add its place to hsm.private_places", s.Name, place)
			}
			return nil
		}
		nameless := *s.TLS
		nameless.ServerName = ""
		if !slices.ContainsFunc(known, func(t member.TLS) bool {
			same := t == *s.TLS
			t.ServerName = ""
			return same || s.TLS.ServerName == "" && t == nameless
		}) {
			return fmt.Errorf("hsm.members: %s: its tls is not the configuration's: use the files and the server_name of hsm.tls or of a configured member", s.Name)
		}
		return nil
	}
}

func among(place string, named []string) bool {
	return slices.ContainsFunc(named, func(n string) bool { return within(place, n) })
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
func checkPlace(key, p string) error {
	_, network := netip.ParsePrefix(p)
	switch {
	case network == nil || filepath.IsAbs(p):
		return nil
	case p == "" || strings.ContainsAny(p, "/ *"):
		return fmt.Errorf("%s: %q is neither a network (10.3.0.0/24), nor an address or host name, nor the path of a library", key, p)
	}
	if _, err := netip.ParseAddr(p); err != nil && strings.Contains(p, ":") {
		return fmt.Errorf("%s: %q: leave the port out, places are hosts and networks", key, p)
	}
	return nil
}
