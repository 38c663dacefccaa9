package posp

import (
	"github.com/keyward/keyward/internal/posp/domains"
	"github.com/keyward/keyward/keys"
)

// placedKey is a key of the configuration with the setting that holds it.
type placedKey struct {
	place string
	usage keys.Usage
	key   KeyConfig
}

// placedKeys are all keys of the configuration.
func (c *Config) placedKeys() []placedKey {
	var all []placedKey
	for _, h := range c.Hosts {
		all = append(all, placedKey{"hosts." + h.Name + ".zpk", keys.ZonePIN, h.ZPK}, placedKey{"hosts." + h.Name + ".zak", keys.ZoneMAC, h.ZAK})
	}
	return append(all, placedKey{"seal_key", sealUsage, c.SealKey})
}

// domains are the LMK domains that this posp is configured for.
func (c *Config) domains() []domains.Place {
	group := domains.Place{Name: domains.Group, Domains: []string{c.HSM.Domain}}
	for _, d := range c.HSM.Domains {
		if !d.Storage {
			group.Domains = append(group.Domains, d.Name)
		}
	}
	places := []domains.Place{group}
	for _, k := range c.placedKeys() {
		places = append(places, domains.Place{Name: k.place, Usage: k.usage, Domains: k.key.Keys(k.usage).Domains()})
	}
	return places
}
