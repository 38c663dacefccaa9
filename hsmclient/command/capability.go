package command

import (
	"context"
	"strings"
)

// Capability is a set of things that a driver can do.
type Capability uint32

// The capabilities, one bit each; every one stands for the interface of the same name.
const (
	CanMakeWorkKey Capability = 1 << iota
	CanTranslatePIN
	CanMAC
	CanDecryptTrack
	CanDiversify
	CanExportForCard
	CanCheck
	CanRandom
	CanStoreKey
	CanDataKey
	CanExchangeZone
	CanTranslateLMK
)

var capabilityNames = []string{
	"make work keys", "translate PINs", "MAC", "decrypt track data", "diversify", "export for cards", "check values", "random numbers",
	"store keys in the device", "data keys", "exchange keys under a zone master key", "translate keys from an old LMK",
}

// Has says that all of want are in the set.
func (c Capability) Has(want Capability) bool { return c&want == want }

// Missing gives those of want that are not in the set.
func (c Capability) Missing(want Capability) Capability { return want &^ c }

// String lists the names.
func (c Capability) String() string {
	var names []string
	for i, name := range capabilityNames {
		if c&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// Priority is the class of a request in the queue: when it is full, the lowest class goes first.
type Priority uint8

// The classes, from the one that is shed first.
const (
	Background  Priority = iota + 1 // key migration, explanations
	SignOn                          // working keys: a terminal can try again
	Transaction                     // money
)

var priorityNames = [...]string{"", "background", "sign_on", "transaction"}

// String gives the name in APIs and metrics.
func (p Priority) String() string {
	if int(p) >= len(priorityNames) {
		return ""
	}
	return priorityNames[p]
}

type priorityKey struct{}

// WithPriority sets the class of the requests made with ctx. Without it the cluster takes SignOn for making keys and Transaction
// for everything else.
func WithPriority(ctx context.Context, p Priority) context.Context {
	return context.WithValue(ctx, priorityKey{}, p)
}

// PriorityOf gives the class that WithPriority set, or 0.
func PriorityOf(ctx context.Context) Priority {
	p, _ := ctx.Value(priorityKey{}).(Priority)
	return p
}
