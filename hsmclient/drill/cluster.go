package drill

import (
	"context"
	"log/slog"

	"github.com/keyward/keyward/hsmclient/member"
)

// Cluster is what a drill needs of a cluster of HSMs.
type Cluster interface {
	Engine() member.Engine
	Members() []member.Status
	Member(name string) (member.Status, error)
	// History gives the latest switches, newest first.
	History(limit int) []member.Switch
	Inject(act member.Act, name string, f member.Fault) error
	Clear(act member.Act, name string) error
	SetState(ctx context.Context, act member.Act, name string, to member.State) error
	// Observe calls fn for every request that ends until stop is called. fn is called from many goroutines.
	Observe(fn func(member.Outcome)) (stop func())
}

// Config is what a Runner works with.
type Config struct {
	Cluster Cluster
	// Ask makes one harmless request in a domain, for example for the check value of its canary key: the drill's own load. Its requests
	// must be made with ctx, which is marked with member.ForDrill. Nil: drills have no load of their own.
	Ask func(ctx context.Context, domain string) error
	// Dir keeps the reports, one file each; it is made when missing. Empty: they are kept in memory.
	Dir string
	// Keep is how many reports are kept, the newest; 0 means 50.
	Keep int
	Log  *slog.Logger // nil: silent
}

// defaultKeep is about 5 MB of reports: years of monthly drills.
const defaultKeep = 50
