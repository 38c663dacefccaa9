package posp_test

import (
	"strings"
	"testing"

	"github.com/keyward/keyward/internal/posp"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/keys"
)

// TestTwinsInProduction: the twin of a configured key is held to what the key is held to.
func TestTwinsInProduction(t *testing.T) {
	t.Parallel()
	key := posp.KeyConfig{Algorithm: keys.TDES, Domain: "prod", Version: 1, Cryptogram: "S00", KCV: "A1B2C3D4E5F60718"}
	for _, test := range []struct {
		name    string
		kcv     keys.KCV
		profile service.Profile
		want    string // in the refusal, after the place; empty: nothing of twins
	}{
		{"the same key", "A1B2C3D4E5F60718", service.Production, ""},
		{"the same key, shorter", "A1B2C3", service.Production, ""},
		{"no check value", "", service.Production, ".twins: name the check value of the twin in next"},
		{"no check value, outside production", "", service.Dev, ""},
		{"another key", "B1B2C3D4E5F60718", service.Dev, ".twins: the twin in next has check value B1B2C3D4E5F60718, the key A1B2C3D4E5F60718"},
		{"a public test key", "8750E051DC15268A", service.Production, ".twins in next: check value 8750E051DC15268A is that of a public test key"},
	} {
		for _, place := range []string{"hosts.core.zpk", "hosts.core.zak", "seal_key"} {
			c := posp.DefaultConfig()
			c.Profile = test.profile
			h := posp.HostConfig{Name: "core", ZPK: key, ZAK: key}
			c.SealKey = key
			twins := []posp.TwinConfig{{Domain: "next", Cryptogram: "S11", KCV: test.kcv}}
			changed := map[string]*posp.KeyConfig{"hosts.core.zpk": &h.ZPK, "hosts.core.zak": &h.ZAK, "seal_key": &c.SealKey}[place]
			changed.Twins = twins
			if strings.Contains(test.want, "test key") {
				changed.KCV = "" // the key itself does not tell
			}
			c.Hosts = []posp.HostConfig{h}
			err := c.Validate()
			if test.want == "" && strings.Contains(err.Error(), "twins") || test.want != "" && !strings.Contains(err.Error(), place+test.want) {
				t.Errorf("%s at %s: %v, want %q", test.name, place, err, test.want)
			}
		}
	}
}
