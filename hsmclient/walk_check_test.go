package hsmclient_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/exchangelog"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/sim/hsm"
)

// ledger is a journal and a listener that forget nothing.
type ledger struct {
	mu        sync.Mutex
	exchanges []exchangelog.Exchange
	switches  []member.Switch
}

func (l *ledger) Record(e exchangelog.Exchange) {
	l.mu.Lock()
	l.exchanges = append(l.exchanges, e)
	l.mu.Unlock()
}

func (l *ledger) onSwitch(s member.Switch) {
	l.mu.Lock()
	l.switches = append(l.switches, s)
	l.mu.Unlock()
}

// all gives what there is until now, exchanges in the order in which they began.
func (l *ledger) all() ([]exchangelog.Exchange, []member.Switch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	exchanges := slices.Clone(l.exchanges)
	slices.SortStableFunc(exchanges, func(a, b exchangelog.Exchange) int { return a.At.Compare(b.At) })
	return exchanges, slices.Clone(l.switches)
}

// hostCommands are what the load sends, by the capability that the journal names.
var hostCommands = map[string]string{"mac": "M6", "verify_mac": "M8", "check_value": "BU", "store_key": "B2", "random": "N0"}

// verdicts are the results that are an answer to the load.
var verdicts = []string{"00", "01"}

// checkSwitches: sequence without holes, every switch announced and then done, from where the member was, and only to where it may go.
func checkSwitches(t *testing.T, switches []member.Switch) {
	t.Helper()
	type open struct{ entry member.Switch }
	state := map[string]string{}
	pending := map[string][]open{}
	for i, s := range switches {
		if s.Seq != uint64(i+1) {
			t.Errorf("switch %d has number %d", i+1, s.Seq)
			return
		}
		key := s.Domain + "/" + s.Member + "/" + s.What
		switch s.Phase {
		case member.Before:
			pending[key] = append(pending[key], open{s})
			if s.What == "add" { // from here on it may be admitted
				state[s.Member] = string(member.Down)
			}
			continue
		case member.After:
			if len(pending[key]) == 0 {
				t.Errorf("not announced: %s", show(s))
				continue
			}
			pending[key] = pending[key][:len(pending[key])-1]
		}
		if s.To == "failed" {
			continue
		}
		if s.To == string(member.Suspect) && strings.Contains(s.Reason, "the member is taken out") {
			t.Errorf("taking a member out is no fault of it: %s", show(s))
		}
		switch s.What {
		case "remove":
			delete(state, s.Member)
		case "state":
			if known, ok := state[s.Member]; ok && known != s.From {
				t.Errorf("%s, but it was %s", show(s), known)
			}
			if !slices.Contains(moves[s.From], s.To) {
				t.Errorf("no legal move: %s", show(s))
			}
			state[s.Member] = s.To
		}
	}
	for _, list := range pending {
		for _, o := range list {
			t.Errorf("announced, but not done: %s", show(o.entry))
		}
	}
}

// moves are the legal changes of state.
var moves = map[string][]string{
	"working":  {"standby", "draining", "suspect", "fenced"},
	"standby":  {"working", "draining", "suspect", "fenced"},
	"draining": {"working", "standby", "suspect", "fenced", "down"},
	"suspect":  {"working", "standby", "draining", "down", "fenced"},
	"down":     {"working", "standby", "draining", "fenced"},
	"fenced":   {"working", "standby", "draining", "down", "suspect"},
}

func show(s member.Switch) string {
	return fmt.Sprintf("#%d %s %s %s %s→%s (%s: %s)", s.Seq, s.Phase, s.Member, s.What, s.From, s.To, s.By, s.Reason)
}

// outOfTraffic says that a member of this state gets no request.
func outOfTraffic(state string) bool {
	return slices.Contains([]string{"draining", "suspect", "down", "fenced"}, state)
}

// checkTraffic: no request of the load began and ended on a member between the switch that took it out and the one that let it in again. (One
// that ended later may have had its place after the second switch: the journal's time is that before the wait for the lock.)
func checkTraffic(t *testing.T, exchanges []exchangelog.Exchange, switches []member.Switch) {
	t.Helper()
	type span struct {
		from, to time.Time // zero: for ever
		why      member.Switch
	}
	spans := map[string][]span{}
	for _, s := range switches {
		list := spans[s.Member]
		open := len(list) > 0 && list[len(list)-1].to.IsZero()
		out := s.Phase == member.After && (s.What == "state" && outOfTraffic(s.To) || s.What == "remove" && s.To != "failed")
		in := s.Phase == member.Before && (s.What == "state" && !outOfTraffic(s.To) || s.What == "add")
		switch {
		case out && !open:
			spans[s.Member] = append(list, span{from: s.At, why: s})
		case in && open:
			list[len(list)-1].to = s.At
		}
	}
	wrong := 0
	for _, e := range exchanges {
		if hostCommands[e.For] == "" || e.Result == exchangelog.Dropped {
			continue
		}
		for _, s := range spans[e.Member] {
			if e.At.After(s.from) && (s.to.IsZero() || e.At.Add(e.Took).Before(s.to)) {
				if wrong++; wrong <= 3 {
					t.Errorf("%s got a %s %s after it was out of traffic: %s\n%+v\n%s", e.Member, e.For, e.At.Sub(s.from), show(s.why), e, near(switches, s.why, e.At))
				}
			}
		}
	}
}

// near gives the switches of the same member around one.
func near(switches []member.Switch, one member.Switch, until time.Time) string {
	var text []string
	for _, s := range switches {
		if s.Member == one.Member && s.Seq+20 > one.Seq && s.At.Before(until.Add(5*time.Millisecond)) {
			text = append(text, s.At.Format("05.000000 ")+show(s))
		}
	}
	return strings.Join(text, "\n")
}

// checkJournal: every exchange is in the journal once. What the devices have seen is there, and what callers were answered is there.
// malformed is how many answers the cluster has thrown away that looked good to the journal.
func checkJournal(t *testing.T, exchanges []exchangelog.Exchange, devices map[string]*hsm.Device, l *load, malformed uint64) {
	t.Helper()
	serials := map[string]bool{}
	answered := map[string]uint64{}        // by capability
	sent := map[string]map[string]uint64{} // by member and host command
	for _, e := range exchanges {
		if s := e.Serial.String(); serials[s] {
			t.Fatalf("serial number %s is used twice", s)
		} else {
			serials[s] = true
		}
		if sent[e.Member] == nil {
			sent[e.Member] = map[string]uint64{}
		}
		if e.Result != exchangelog.NotSent && e.Result != exchangelog.Dropped {
			sent[e.Member][e.Command]++
		}
		if slices.Contains(verdicts, e.Result) {
			answered[e.For]++
		}
	}
	for purpose, kinds := range map[string][]int{"mac": {doMAC}, "verify_mac": {doVerify, doVerifyWrong}, "check_value": {doCheck}, "store_key": {doStore}} {
		var served uint64
		for _, kind := range kinds {
			served += l.done[kind].Load()
		}
		if n := answered[purpose]; n < served || n > served+malformed {
			t.Errorf("%d requests %s were answered, the journal has %d (%d malformed answers)", served, purpose, n, malformed)
		}
	}
	for name, d := range devices {
		got := map[string]uint64{}
		for _, e := range d.History(deviceHistory) {
			if e.ErrorCode != "" {
				got[e.Command]++
			}
		}
		for _, code := range []string{"M6", "M8", "BU"} {
			if got[code] > sent[name][code] {
				t.Errorf("%s has executed %d %s, the journal has %d", name, got[code], code, sent[name][code])
			}
		}
	}
}

// deviceHistory keeps every command of a test.
const deviceHistory = 100_000

// checkNow looks at what holds at every moment.
func checkNow(t *testing.T, c *hsmclient.Cluster, maxWaiting int) {
	for _, s := range c.Members() {
		if _, legal := moves[string(s.State)]; !legal {
			t.Errorf("%s is %q", s.Spec.Name, s.State)
		}
		if most := s.Spec.Channels * s.Spec.Depth; s.Load.InFlight < 0 || s.Load.InFlight > most || s.Load.ChannelsOpen > s.Spec.Channels {
			t.Errorf("%s has %d requests under way on %d channels, %d and %d are possible", s.Spec.Name, s.Load.InFlight, s.Load.ChannelsOpen, most, s.Spec.Channels)
		}
	}
	for _, q := range c.Queues() {
		waiting := 0
		for _, class := range q.Requests {
			waiting += class.Waiting
		}
		if waiting < 0 || waiting > maxWaiting {
			t.Errorf("%d requests wait, %d may", waiting, maxWaiting)
		}
	}
}

// checkQuiet: nothing is left behind when the traffic has ended.
func checkQuiet(t *testing.T, c *hsmclient.Cluster) {
	t.Helper()
	for _, s := range c.Members() {
		if s.Load.InFlight != 0 {
			t.Errorf("%s has %d requests under way after the end", s.Spec.Name, s.Load.InFlight)
		}
	}
	checkNow(t, c, 0)
}
