package member

import (
	"context"
	"time"
)

// Outcome is how one request of a caller ended, for those who watch a cluster (row X5). It names devices and times, never content.
type Outcome struct {
	Ended  time.Time     // when the caller had its answer or error
	Took   time.Duration // waiting for a place and repeats included
	Domain string
	First  string // the member that was asked first; empty: none was asked
	Last   string // the member that was asked last
	// Repeated says that a member failed while it had the request, and that another one was asked. A request that went on because a member
	// lacks the licence is not repeated in this sense.
	Repeated bool
	// Result is "ok" or the class of the error as the metrics name it (caller_fault, member_fault, no_licence, unavailable, unknown), or
	// "cancelled" when the caller gave up by itself.
	Result string
	Drill  bool // made with ForDrill
}

type drillKey struct{}

// ForDrill marks the requests made with ctx as the own load of a drill, which is counted apart from traffic.
func ForDrill(ctx context.Context) context.Context { return context.WithValue(ctx, drillKey{}, true) }

// IsForDrill says that ctx comes from ForDrill.
func IsForDrill(ctx context.Context) bool {
	mark, _ := ctx.Value(drillKey{}).(bool)
	return mark
}
