package hsmclient

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/hsmclient/member"
)

// node is one member with its channels.
type node struct {
	pool        *pool
	name        string
	driver      driver.Driver
	opener      driver.Opener
	resulter    driver.Resulter // may be nil
	can         command.Capability
	target      driver.Target
	connections chan struct{} // one token for each open connection
	woken       chan struct{} // tells the keeper to look
	asked       chan chan member.ProbeResult
	fault       atomic.Pointer[fault]
	cancel      context.CancelFunc
	running     sync.WaitGroup

	// guarded by pool.mu
	spec member.Spec
	condition
	orderWhy  string // by whom and why the order was given
	reason    string // of health
	since     time.Time
	device    member.Device
	lanes     []*lane
	turn      int // where the search among equal channels begins
	inFlight  int
	places    int
	newcomer  bool // not admitted yet, or told its role since: admission gives it spec.Role
	admitting bool
	left      bool          // removed
	gate      chan struct{} // closed while channels are to be made
	shut      chan struct{} // closed when they are to be made no more
	gateOpen  bool
	watch
	suspicion
	figures figures
	refused [operations]refusals
	unfit   int // operations that it refuses
}

// newNode makes a member without connecting.
func (c *Cluster) newNode(spec member.Spec) (*node, error) {
	spec, err := c.cfg.fill(spec)
	if err != nil {
		return nil, err
	}
	p := c.pools[spec.Domain]
	drv, t, err := c.cfg.equip(spec, &p.cfg)
	if err != nil {
		return nil, err
	}
	n := &node{
		pool: p, name: spec.Name, driver: drv, can: abilities(drv), spec: spec, condition: condition{role: spec.Role}, newcomer: true, since: time.Now(),
		target:      driver.Target{Name: spec.Name, Addr: spec.Addr, TLS: t, FrameTimeout: c.cfg.Timeout, Log: c.cfg.Log},
		connections: make(chan struct{}, spec.Connections),
		woken:       make(chan struct{}, 1), asked: make(chan chan member.ProbeResult), gate: make(chan struct{}),
	}
	n.reason = "not admitted yet"
	if spec.Role == member.Fenced { // taken out by hand before it was saved, and to stay out
		n.role, n.order, n.orderWhy = member.Working, orderFence, "by hand, as the list says"
	}
	n.opener, _ = drv.(driver.Opener) // equip has made sure
	n.resulter, _ = drv.(driver.Resulter)
	n.figures.init()
	n.beats = rand.N(examineEvery) // members that start together are not examined together
	return n, nil
}

// begin starts the keeper and the channels. ctx is the life of the cluster.
func (n *node) begin(ctx context.Context) {
	ctx, n.cancel = context.WithCancel(ctx)
	n.running.Go(func() { n.keep(ctx) })
	for i := range n.spec.Channels {
		n.running.Go(func() { n.keepLane(ctx, i+1) })
	}
}

// finish ends the channels and the keeper and waits for them until ctx ends.
func (n *node) finish(ctx context.Context) error {
	if n.cancel == nil {
		return nil
	}
	n.cancel()
	done := make(chan struct{})
	go func() {
		n.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// wake makes the keeper look again.
func (n *node) wake() {
	select {
	case n.woken <- struct{}{}:
	default: // it will look anyway
	}
}

// depth is how many requests are wanted on one channel.
func (n *node) depth() int {
	n.pool.mu.Lock()
	defer n.pool.mu.Unlock()
	return n.spec.Depth
}

// ready says that the member could get traffic at once. The caller holds pool.mu, as of all below.
func (n *node) ready() bool { return n.health == healthOK && n.order == orderNone && len(n.lanes) > 0 }

// serves says that it gets traffic.
func (n *node) serves() bool {
	return n.ready() && (n.role == member.Working || n.pool.standby.engaged)
}

// leastBusy is the channel with the fewest requests; equals take turns.
func (n *node) leastBusy() *lane {
	var best *lane
	for k := range n.lanes {
		l := n.lanes[(n.turn+k)%len(n.lanes)]
		if l.inFlight < l.depth && (best == nil || l.inFlight < best.inFlight) {
			best = l
		}
	}
	n.turn++
	return best
}

// countPlaces says how many requests may be under way. Of a device whose speed is known no more wait inside it than it does in half of
// the heartbeat's time-out: the rest waits here, where it can be put in order, sent elsewhere or shed.
func (n *node) countPlaces() {
	n.places = 0
	for _, l := range n.lanes {
		n.places += l.depth
	}
	if n.spec.Rated > 0 && n.places > 0 {
		inside := int(float64(n.spec.Rated) * n.pool.c.cfg.Probing.Timeout.Seconds() / 2)
		n.places = min(n.places, max(1, inside))
	}
}

// openGate lets channels be made, or no more.
func (n *node) openGate(open bool) {
	if open == n.gateOpen {
		return
	}
	n.gateOpen = open
	if open {
		n.shut = make(chan struct{})
		close(n.gate)
	} else {
		n.gate = make(chan struct{})
		close(n.shut)
	}
}

// untilOpen waits until channels are to be made and gives what tells when they are to be made no more; nil: ctx has ended. It takes
// the lock itself.
func (n *node) untilOpen(ctx context.Context) <-chan struct{} {
	for {
		n.pool.mu.Lock()
		open, gate, shut := n.gateOpen, n.gate, n.shut
		n.pool.mu.Unlock()
		if ctx.Err() != nil {
			return nil
		}
		if open {
			return shut
		}
		select {
		case <-gate:
		case <-ctx.Done():
		}
	}
}

// giveUpAll closes all channels from this side.
func (n *node) giveUpAll(cause error) {
	for _, l := range slices.Clone(n.lanes) {
		if l.drop() {
			n.pool.closing = append(n.pool.closing, closing{l, cause})
		}
	}
}
