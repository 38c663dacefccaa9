package hsmclient_test

import (
	"testing"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/sim/hsm"
)

// A device that is sick already when it is connected must not be taken for one that gives no labels back: without labels a duplicate would be
// the answer to the next request.
func TestSickFromTheStart(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]hsm.Faults{
		"duplicates": {DuplicateEvery: 3}, "wrong headers": {WrongHeaderEvery: 3}, "swapped": {SwapHeaderEvery: 2}, "garbage": {GarbleEvery: 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := underLoad(t, hsmclient.Config{Probing: quickProbing}, "a", "b")
			setFaults(t, u.devices["b"], hsm.Faults{Refuse: true})
			u.is("b", member.Down)
			setFaults(t, u.devices["b"], f)
			for range 40 {
				u.load.barrier(t)
			}
			setFaults(t, u.devices["b"], hsm.Faults{})
			u.is("b", member.Working, member.Standby)
			u.load.stop()
			for _, f := range u.load.broken() {
				t.Error(f)
			}
		})
	}
}
