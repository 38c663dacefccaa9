package hsmclient_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/sim/hsm"
)

var (
	walkSeed = flag.Uint64("walk.seed", 0, "seed of the random walks; 0 takes one from the clock")
	walkOps  = flag.Int("walk.ops", 1000, "operations of a random walk")
)

const (
	walkDevices  = 5
	walkWorkers  = 10
	walkTry      = 3 * time.Second // a swallowed request costs so much, and a heartbeat; a busy machine answers sooner
	walkSilences = 3               // how often a walk has a fault that swallows requests
	walkQueue    = 64
	walkLastOps  = 40               // printed on failure
	walkDeadline = 20 * time.Second // of one operation
)

// walk is a cluster under load that an operator changes at random. At any time at most one member is disturbed, and the anchor never is
// and stays in service: so no request has an excuse to fail.
type walk struct {
	*testing.T
	random  *rand.Rand
	c       *hsmclient.Cluster
	load    *load
	ledger  *ledger
	devices map[string]*hsm.Device
	addr    map[string]string

	anchor    string
	disturbed string
	silent    bool // the disturbance swallows requests
	silences  int  // that were
	mend      func()
	settled   time.Time // until then only the one that was mended last may be disturbed
	last      string
	counts    map[string][2]int // done and refused, by operation
	messages  tailBuffer
	slack     uint64 // answers that look good to the journal and are thrown away
	log       []string
	// breakLine is a fault from outside: it gives the way to end it, and whether it swallows requests.
	breakLine func(name string) (what string, silent bool, mend func())
}

// tailBuffer keeps the last lines of a log.
type tailBuffer struct {
	mu    sync.Mutex
	lines []string
}

// Write implements io.Writer; a handler of slog writes a line at once.
func (b *tailBuffer) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines[max(0, len(b.lines)-walkLastOps):], string(line))
	return len(line), nil
}

func (b *tailBuffer) tail() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.lines, "")
}

func newWalk(t *testing.T, through func(t *testing.T, name, addr string) string) *walk {
	t.Helper()
	seed := *walkSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("repeat with: go test ./hsmclient -run '^%s$' -walk.seed=%d", t.Name(), seed)
		}
	})
	w := &walk{T: t, random: rand.New(rand.NewPCG(seed, 0)), ledger: &ledger{}, devices: map[string]*hsm.Device{}, addr: map[string]string{}, counts: map[string][2]int{}}
	var members []member.Spec
	for i := range walkDevices {
		name := fmt.Sprintf("hsm%d", i+1)
		d := device(t, hsm.Config{HistorySize: deviceHistory, Faults: healthyDevice})
		w.devices[name] = d
		w.addr[name] = through(t, name, d.Addr("all").String())
		if i < 3 {
			members = append(members, w.spec(name))
		}
	}
	w.anchor = members[0].Name
	sent := &sentLabels{count: map[string]int{}}
	reg := prometheus.NewRegistry()
	w.c = start(t, hsmclient.Config{
		Members: members, Drivers: map[string]driver.Maker{"racal": sent.make}, Timeout: walkTry, HoldDown: 50 * time.Millisecond,
		Probing:    hsmclient.Probing{Every: 50 * time.Millisecond, Timeout: walkTry, BackoffMin: 10 * time.Millisecond, BackoffMax: 100 * time.Millisecond, AdmitTimes: 2},
		MaxWaiting: walkQueue, Journal: w.ledger, OnSwitch: w.ledger.onSwitch, Registerer: reg,
		Log: slog.New(slog.NewTextHandler(&w.messages, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	w.load = newLoad(t, w.c, sent)
	eventually(t, "all members of the start are admitted", func() bool { return len(w.inState(member.Working)) == 3 })
	w.load.run(seed, walkWorkers, 0)
	t.Cleanup(w.load.stop)
	return w
}

// healthyDevice takes as long as a real one, so that requests are under way on every member at any time.
var healthyDevice = hsm.Faults{LatencyMS: 1, JitterMS: 2}

func (w *walk) spec(name string) member.Spec {
	return member.Spec{Name: name, Addr: w.addr[name], Channels: 2, Depth: 3, Priority: 1 + w.random.IntN(3), Weight: 1 + w.random.IntN(3)}
}

func (w *walk) inState(states ...member.State) (names []string) {
	for _, s := range w.c.Members() {
		if slices.Contains(states, s.State) {
			names = append(names, s.Spec.Name)
		}
	}
	return names
}

// names are all members, others all but the anchor.
func (w *walk) names() (names []string) {
	for _, s := range w.c.Members() {
		names = append(names, s.Spec.Name)
	}
	return names
}

func (w *walk) others() []string {
	return slices.DeleteFunc(w.names(), func(name string) bool { return name == w.anchor })
}

func (w *walk) oneOf(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return names[w.random.IntN(len(names))]
}

func (w *walk) missing() []string {
	present := w.names()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(w.devices)), func(name string) bool { return slices.Contains(present, name) })
}

var walker = member.Act{By: "walker", Reason: "random walk"}

// operation does one thing and says what; errors are judged by the caller.
type operation struct {
	name   string
	weight int
	do     func(w *walk, ctx context.Context) (what string, err error)
}

var errSkip = errors.New("not possible now")

// operations are what the walk does. Everything that an operator can do while the system runs is here.
var operations = []operation{
	{"priority", 12, func(w *walk, _ context.Context) (string, error) {
		name, p := w.oneOf(w.names()), 1+w.random.IntN(4)
		return fmt.Sprintf("%s to %d", name, p), w.c.Modify(walker, name, member.Change{Priority: &p})
	}},
	{"weight", 5, func(w *walk, _ context.Context) (string, error) {
		name, v, rated := w.oneOf(w.names()), 1+w.random.IntN(5), 50_000*w.random.IntN(2)
		return fmt.Sprintf("%s to %d, rated %d", name, v, rated), w.c.Modify(walker, name, member.Change{Weight: &v, Rated: &rated})
	}},
	{"probe command", 3, func(w *walk, _ context.Context) (string, error) {
		name, p := w.oneOf(w.names()), []string{"", "NC", "B2", "N0"}[w.random.IntN(4)]
		return name + " " + p, w.c.Modify(walker, name, member.Change{Probe: &p})
	}},
	{"state", 16, func(w *walk, ctx context.Context) (string, error) {
		name, to := w.oneOf(w.others()), []member.State{member.Working, member.Working, member.Standby}[w.random.IntN(3)]
		return name + " " + string(to), w.c.SetState(ctx, walker, name, to)
	}},
	{"drain", 8, func(w *walk, ctx context.Context) (string, error) {
		name := w.oneOf(w.others())
		return name, w.c.SetState(ctx, walker, name, member.Draining)
	}},
	{"remove", 8, func(w *walk, ctx context.Context) (string, error) {
		name := w.oneOf(w.others())
		return name, w.c.Remove(ctx, walker, name)
	}},
	{"add", 12, func(w *walk, ctx context.Context) (string, error) {
		name := w.oneOf(w.missing())
		if name == "" {
			return "", errSkip
		}
		act := walker
		act.Force = w.random.IntN(4) == 0
		return name, w.c.Add(ctx, act, w.spec(name))
	}},
	{"probe", 6, func(w *walk, ctx context.Context) (string, error) {
		name := w.oneOf(w.names())
		_, err := w.c.Probe(ctx, name)
		return name, err
	}},
	{"apply", 3, (*walk).apply},
	{"monitoring", 2, func(w *walk, _ context.Context) (string, error) {
		if err := w.c.SetMonitoring(walker, false); err != nil {
			return "off", err
		}
		return "off and on", w.c.SetMonitoring(walker, true)
	}},
	{"fence", 3, func(w *walk, ctx context.Context) (string, error) {
		name := w.mayDisturb()
		if name == "" {
			return "", errSkip
		}
		w.load.calm(false)
		err := w.c.SetState(ctx, walker, name, member.Fenced)
		if err == nil {
			w.disturb(name, false, func() {
				w.acceptable("unfence", w.c.SetState(context.WithoutCancel(ctx), walker, name, member.Working))
			})
		}
		return name, err
	}},
	{"break", 10, func(w *walk, _ context.Context) (string, error) {
		name := w.mayDisturb()
		if name == "" {
			return "", errSkip
		}
		w.load.calm(false)
		what, silent, mend := w.breakLine(name)
		w.disturb(name, silent, mend)
		return name + " " + what, nil
	}},
	{"inject", 6, (*walk).inject},
	{"mend", 9, func(w *walk, _ context.Context) (string, error) {
		if w.disturbed == "" {
			return "", errSkip
		}
		name := w.disturbed
		w.undisturb()
		return name, nil
	}},
	{"anchor", 3, (*walk).moveAnchor},
	{"pause", 10, func(w *walk, _ context.Context) (string, error) {
		d := time.Duration(w.random.IntN(40)) * time.Millisecond
		time.Sleep(d) // lets traffic flow and faults be noticed; nothing waits for it
		return d.String(), nil
	}},
	{"nonsense", 6, (*walk).nonsense},
}

// mayDisturb gives a member that may be disturbed now, or "".
func (w *walk) mayDisturb() string {
	if w.disturbed != "" {
		return ""
	}
	candidates := slices.DeleteFunc(w.inState(member.Working, member.Standby), func(name string) bool { return name == w.anchor })
	if time.Now().Before(w.settled) {
		candidates = slices.DeleteFunc(candidates, func(name string) bool { return name != w.last })
	}
	return w.oneOf(candidates)
}

func (w *walk) disturb(name string, silent bool, mend func()) {
	w.disturbed, w.silent, w.mend = name, silent, mend
	if silent {
		w.silences++
	}
}

// pick gives one of n faults; silent ones cost time and are few.
func (w *walk) pick(n int, silent func(i int) bool) int {
	for {
		if i := w.random.IntN(n); w.silences < walkSilences || !silent(i) {
			return i
		}
	}
}

// undisturb ends the disturbance and waits for the requests that have felt it: the next one must not hit them again. A heartbeat that was
// swallowed may still close a channel of this member, and only of this one, until its time-out is over.
func (w *walk) undisturb() {
	w.mend()
	w.load.barrier(w.T)
	w.last, w.settled = w.disturbed, time.Time{}
	if w.silent {
		w.settled = time.Now().Add(walkTry)
	}
	w.disturbed, w.mend = "", nil
}

// apply brings the list to another one: priorities changed, a member more or less.
func (w *walk) apply(ctx context.Context) (string, error) {
	specs := w.c.Specs()
	what := "priorities"
	for i := range specs {
		specs[i].Priority = 1 + w.random.IntN(4)
	}
	if out := w.oneOf(w.others()); out != "" && w.random.IntN(2) == 0 {
		specs = slices.DeleteFunc(specs, func(s member.Spec) bool { return s.Name == out })
		what += ", without " + out
	}
	if in := w.oneOf(w.missing()); in != "" {
		specs = append(specs, w.spec(in))
		what += ", with " + in
	}
	return what, w.c.Apply(ctx, walker, specs)
}

// inject is a drill's fault, on our side of the line.
func (w *walk) inject(ctx context.Context) (string, error) {
	name := w.mayDisturb()
	if name == "" {
		return "", errSkip
	}
	w.load.calm(false)
	kinds := []member.FaultKind{member.FaultRefuse, member.FaultRefuse, member.FaultSlow, member.FaultWrongLMK, member.FaultWrongLMK, member.FaultBlackHole}
	kind := kinds[w.pick(len(kinds), func(i int) bool { return kinds[i] == member.FaultBlackHole })]
	f := member.Fault{Kind: kind, Until: time.Now().Add(time.Minute)}
	if f.Kind == member.FaultSlow {
		f.Delay = member.Duration(time.Duration(1+w.random.IntN(20)) * time.Millisecond)
	}
	err := w.c.Inject(walker, name, f)
	if err == nil {
		w.disturb(name, f.Kind == member.FaultBlackHole, func() { w.acceptable("clear", w.c.Clear(walker, name)) })
	}
	return name + " " + string(f.Kind), err
}

// moveAnchor makes another healthy member the one that is never disturbed.
func (w *walk) moveAnchor(context.Context) (string, error) {
	next := w.oneOf(w.inState(member.Working))
	if w.disturbed != "" || next == "" || time.Now().Before(w.settled) {
		return "", errSkip
	}
	w.load.barrier(w.T)
	w.anchor = next
	return next, nil
}

// nonsense are orders that must be refused with a sentence and change nothing.
func (w *walk) nonsense(ctx context.Context) (string, error) {
	zero, much, bad := 0, 17, "XX"
	present := w.oneOf(w.names())
	taken := w.spec(w.anchor)
	nowhere := w.spec("nowhere")
	nowhere.Addr = "127.0.0.1:1"
	all := []struct {
		name string
		kind member.RefusalKind
		do   func() error
	}{
		{"remove unknown", member.NotFound, func() error { return w.c.Remove(ctx, walker, "nobody") }},
		{"drain unknown", member.NotFound, func() error { return w.c.SetState(ctx, walker, "nobody", member.Draining) }},
		{"duplicate", member.Conflict, func() error { return w.c.Add(ctx, walker, taken) }},
		{"priority 0", member.Invalid, func() error { return w.c.Modify(walker, present, member.Change{Priority: &zero}) }},
		{"priority 17", member.Invalid, func() error { return w.c.Modify(walker, present, member.Change{Priority: &much}) }},
		{"probe XX", member.Invalid, func() error { return w.c.Modify(walker, present, member.Change{Probe: &bad}) }},
		{"unreachable", member.Unsafe, func() error { return w.c.Add(ctx, walker, nowhere) }},
		{"told to be down", member.Invalid, func() error { return w.c.SetState(ctx, walker, present, member.Down) }},
	}
	one := all[w.random.IntN(len(all))]
	if err := one.do(); !member.IsRefusal(err, one.kind) || !strings.Contains(err.Error(), ": ") {
		w.Errorf("%s: %v, want a refusal %s with the next step", one.name, err, one.kind)
	}
	return one.name, nil
}

// acceptable says whether an operation may end so: done, or refused for a reason. It notes it.
func (w *walk) acceptable(name string, err error) bool {
	var refused *member.Refusal
	n := w.counts[name]
	switch {
	case err == nil:
		n[0]++
	case errors.As(err, &refused):
		n[1]++
	default:
		w.Errorf("%s: %v", name, err)
		return false
	}
	w.counts[name] = n
	return true
}

// steps walks. It ends early when something is wrong.
func (w *walk) steps(n int) {
	total := 0
	for _, o := range operations {
		total += o.weight
	}
	for done := 0; done < n && !w.Failed(); {
		at := w.random.IntN(total)
		var o operation
		for _, o = range operations {
			if at -= o.weight; at < 0 {
				break
			}
		}
		w.load.calm(w.disturbed == "" && time.Now().After(w.settled))
		ctx, cancel := context.WithTimeout(w.Context(), walkDeadline)
		began := time.Now()
		what, err := o.do(w, ctx)
		cancel()
		if errors.Is(err, errSkip) {
			continue
		}
		done++
		w.log = append(w.log, fmt.Sprintf("%s +%s %s %s: %v", began.Format("05.000"), time.Since(began).Round(time.Millisecond), o.name, what, err))
		w.acceptable(o.name, err)
		checkNow(w.T, w.c, walkQueue)
		if broken := w.load.broken(); len(broken) > 0 {
			w.Errorf("in the traffic:\n%s", strings.Join(broken, "\n"))
		}
	}
}

// finish ends disturbance and traffic, waits until everybody is back, and looks at what was written down.
func (w *walk) finish() {
	w.load.calm(false)
	if w.disturbed != "" {
		w.mend()
	}
	defer func() {
		if !w.Failed() {
			return
		}
		w.Logf("anchor %s, last operations:\n%s", w.anchor, strings.Join(w.log[max(0, len(w.log)-walkLastOps):], "\n"))
		exchanges, switches := w.ledger.all()
		for _, e := range exchanges[max(0, len(exchanges)-walkLastOps):] {
			w.Logf("%s %s %s %s took %s: %s", e.At.Format("05.000000"), e.Member, e.Command, e.For, e.Took, e.Result)
		}
		w.Logf("log of the cluster:\n%s", w.messages.tail())
		for _, s := range switches[max(0, len(switches)-2*walkLastOps):] {
			w.Log(s.At.Format("05.000"), show(s))
		}
		for _, s := range w.c.Members() {
			w.Logf("%s is %s since %s: %s; probing %+v, load %+v", s.Spec.Name, s.State, s.Since.Format("05.000"), s.Reason, s.Probing, s.Load)
		}
	}()
	eventually(w.T, "all members are back", func() bool {
		for _, name := range w.inState(member.Draining, member.Fenced) { // one that is still fenced for a reason cannot be told anything
			w.acceptable("last state", w.c.SetState(w.Context(), walker, name, member.Working))
		}
		return len(w.inState(member.Working, member.Standby)) == len(w.names())
	})
	w.load.stop()
	if broken := w.load.broken(); len(broken) > 0 {
		w.Errorf("in the traffic:\n%s", strings.Join(broken, "\n"))
	}
	checkQuiet(w.T, w.c)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := w.c.Stop(ctx); err != nil { // after it all switches have been told
		w.Error(err)
	}
	exchanges, switches := w.ledger.all()
	checkSwitches(w.T, switches)
	checkTraffic(w.T, exchanges, switches)
	checkJournal(w.T, exchanges, w.devices, w.load, w.slack)
	var served uint64
	for i := range w.load.done {
		served += w.load.done[i].Load()
	}
	w.Logf("%d requests served, %d in doubt, %d exchanges, %d switches, operations done and refused: %v",
		served, w.load.unknown.Load(), len(exchanges), len(switches), w.counts)
}

// deviceFaults are what the simulated devices do to us: they die, hang, lose and delay, and answer nonsense.
var deviceFaults = []struct {
	what   string
	silent bool
	f      hsm.Faults
}{
	{"refuse", false, hsm.Faults{Refuse: true}},
	{"reset", false, hsm.Faults{Refuse: true, Reset: true}},
	{"accept then close", false, hsm.Faults{AcceptThenClose: true, CloseAfter: 3}},
	{"close after", false, hsm.Faults{CloseAfter: 20}},
	{"fault code", false, hsm.Faults{ErrorCodes: map[string]string{"M6": "41"}}},
	{"no licence", false, hsm.Faults{ErrorCodes: map[string]string{"M8": "68"}}},
	{"slow", false, hsm.Faults{LatencyMS: 10, JitterMS: 10}},
	{"shuffle", false, hsm.Faults{Shuffle: true}},
	{"wrong header", false, hsm.Faults{WrongHeaderEvery: 7}},
	{"garbage", false, hsm.Faults{GarbleEvery: 7}},
	{"duplicates", false, hsm.Faults{DuplicateEvery: 7}},
	{"cut", false, hsm.Faults{CutEvery: 11}},
	{"black hole", true, hsm.Faults{BlackHole: true}},
	{"lost answers", true, hsm.Faults{DropEvery: 23}},
}

// TestRandomWalk changes a cluster under load a thousand times at random. No request fails, none is answered with another's answer, none
// goes where it must not go, and every one is in the journal once.
func TestRandomWalk(t *testing.T) {
	t.Parallel()
	w := newWalk(t, func(_ *testing.T, _, addr string) string { return addr })
	w.breakLine = func(name string) (string, bool, func()) {
		one := deviceFaults[w.pick(len(deviceFaults), func(i int) bool { return deviceFaults[i].silent })]
		f := one.f
		f.LatencyMS, f.JitterMS = f.LatencyMS+healthyDevice.LatencyMS, f.JitterMS+healthyDevice.JitterMS
		setFaults(w.T, w.devices[name], f)
		return one.what, one.silent, func() { setFaults(w.T, w.devices[name], healthyDevice) }
	}
	w.steps(*walkOps)
	w.finish()
}
