package ceremony_test

import (
	"testing"

	"github.com/keyward/keyward/internal/dev/ceremony"
	"github.com/keyward/keyward/keys"
)

// TestProductionRefusesEveryKey: each key of the ceremony is one that a production profile knows as public.
func TestProductionRefusesEveryKey(t *testing.T) {
	t.Parallel()
	held, err := ceremony.Hold()
	if err != nil {
		t.Fatal(err)
	}
	all := append([]ceremony.Key{{Name: "ZPK", Wrapped: held.ZPK}, {Name: "ZAK", Wrapped: held.ZAK}, {Name: "seal", Wrapped: held.Seal}}, held.Store...)
	if len(all) != 11 {
		t.Fatalf("%d keys, want 11", len(all))
	}
	for _, k := range all {
		if k.Cryptogram == "" || k.Domain != ceremony.Domain || k.Version != 1 {
			t.Errorf("%s is incomplete: %v", k.Name, k.Wrapped)
		}
		if keys.RefuseTestKey(k.Name, k.KCV) == nil {
			t.Errorf("%s/%s: production would accept check value %s", k.Name, k.Algorithm, k.KCV)
		}
	}
	if keys.RefuseTestKey("LMK", ceremony.LMKCheck) == nil {
		t.Error("production would accept the public test LMK")
	}
}

// TestRepeatable: the sample configurations carry the cryptograms.
func TestRepeatable(t *testing.T) {
	t.Parallel()
	one, err := ceremony.Hold()
	if err != nil {
		t.Fatal(err)
	}
	two, err := ceremony.Hold()
	if err != nil {
		t.Fatal(err)
	}
	if one.ZPK != two.ZPK || one.ZAK != two.ZAK || one.Seal != two.Seal {
		t.Error("two ceremonies give different cryptograms")
	}
}
