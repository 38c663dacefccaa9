package bank

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// FaultKind names one bad manner.
type FaultKind string

// The bad manners of the bank.
const (
	Late         FaultKind = "late"          // The answer comes after DelayMS; others overtake it.
	NoAnswer     FaultKind = "no_answer"     // The message is worked on, money moves, no answer comes.
	LoseRequest  FaultKind = "lose_request"  // The message is lost on its way: no work, no answer.
	DoubleAnswer FaultKind = "double_answer" // The same answer twice.
	WrongMAC     FaultKind = "wrong_mac"     // Field 128 of the answer is wrong.
	WrongTrace   FaultKind = "wrong_trace"   // The answer echoes field 11 plus one, rightly MACed.
	WrongAmount  FaultKind = "wrong_amount"  // The answer echoes field 4 plus one, rightly MACed.
	CutFrame     FaultKind = "cut_frame"     // Half of the answer, then the connection is closed.
	CloseInstead FaultKind = "close"         // The connection is closed instead of an answer; money has moved.
	ForceCode    FaultKind = "force_code"    // ResponseCode instead of work; no money moves.
	Hold         FaultKind = "hold"          // The answer waits for Release; money has moved.
	Refuse       FaultKind = "refuse"        // The listener is closed, living connections go on.
	Down         FaultKind = "down"          // The listener and all connections are closed.
)

const (
	maxFaults     = 64               // More rules than any test needs; bounds what a caller can make the bank keep.
	maxFaultDelay = 10 * time.Minute // Far beyond every time-out of the chain; bounds timers.
	maxWaiting    = 65_536           // Late and held answers together; more are dropped like a lost answer.
)

// Fault is one rule: what goes wrong, with which messages, how often.
type Fault struct {
	Kind FaultKind `json:"kind"`
	// MTI limits the rule to requests of this type, for example "0200". Empty: all. Not for Refuse and Down.
	MTI string `json:"mti,omitempty"`
	// Next limits the rule to that many messages, then it is gone. 0: until it is taken away. Not for Refuse and Down.
	Next int `json:"next,omitempty"`
	// DelayMS is how late an answer is. For Refuse and Down: after it the bank listens again on the same port by itself; 0: when
	// the rule is taken away.
	DelayMS int `json:"delay_ms,omitempty"`
	// ResponseCode is for ForceCode: two letters or digits, not 00.
	ResponseCode string `json:"response_code,omitempty"`
}

func (f Fault) delay() time.Duration { return time.Duration(f.DelayMS) * time.Millisecond }

func (f Fault) closesListener() bool { return f.Kind == Refuse || f.Kind == Down }

// check refuses rules that would silently do nothing.
func (f Fault) check() error {
	switch f.Kind {
	case Late, NoAnswer, LoseRequest, DoubleAnswer, WrongMAC, WrongTrace, WrongAmount, CutFrame, CloseInstead, ForceCode, Hold, Refuse, Down:
	default:
		return fmt.Errorf("unknown fault kind %q", f.Kind)
	}
	if f.closesListener() && (f.MTI != "" || f.Next != 0) {
		return fmt.Errorf("fault %s: mti and next make no sense for connections", f.Kind)
	}
	if f.MTI != "" && (len(f.MTI) != mtiSize || !digits([]byte(f.MTI))) {
		return fmt.Errorf("fault %s: mti must be four digits", f.Kind)
	}
	if f.Next < 0 {
		return fmt.Errorf("fault %s: next must not be negative", f.Kind)
	}
	if f.DelayMS < 0 || f.DelayMS > int(maxFaultDelay/time.Millisecond) {
		return fmt.Errorf("fault %s: delay_ms must be 0 to %d", f.Kind, maxFaultDelay/time.Millisecond)
	}
	if (f.Kind == Late) != (f.DelayMS > 0) && !f.closesListener() {
		return fmt.Errorf("fault %s: delay_ms is needed for late, and only for late, refuse and down", f.Kind)
	}
	code := []byte(f.ResponseCode)
	if f.Kind == ForceCode && (len(code) != formats[39].size || !alnum.holds(code) || f.ResponseCode == codeApproved) {
		return fmt.Errorf("fault %s: response_code must be two letters or digits other than 00", f.Kind)
	}
	if f.Kind != ForceCode && f.ResponseCode != "" {
		return fmt.Errorf("fault %s: response_code is for %s only", f.Kind, ForceCode)
	}
	return nil
}

func checkFaults(faults []Fault) error {
	if len(faults) > maxFaults {
		return fmt.Errorf("%d faults, at most %d", len(faults), maxFaults)
	}
	for _, f := range faults {
		if err := f.check(); err != nil {
			return err
		}
	}
	return nil
}

// misdeeds is what the rules make of one message.
type misdeeds struct {
	kinds []FaultKind // In the order of the rules; nil for a good message.
	late  time.Duration
	code  string
}

func (d *misdeeds) has(kind FaultKind) bool { return slices.Contains(d.kinds, kind) }

// faultTable is the list of rules.
type faultTable struct {
	mu     sync.Mutex
	rules  []Fault
	timers []*time.Timer
}

func newFaultTable() *faultTable { return &faultTable{} }

// take finds the rules for a message and counts it against them.
func (t *faultTable) take(mti string) (out misdeeds) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.rules {
		r := &t.rules[i]
		if r.closesListener() || r.MTI != "" && r.MTI != mti {
			continue
		}
		out.kinds = append(out.kinds, r.Kind)
		out.late += r.delay()
		if r.Kind == ForceCode {
			out.code = r.ResponseCode
		}
		if r.Next > 0 {
			if r.Next--; r.Next == 0 {
				r.Kind = "" // Used up; swept below so that the walk stays simple.
			}
		}
	}
	if out.kinds != nil {
		t.rules = slices.DeleteFunc(t.rules, func(f Fault) bool { return f.Kind == "" })
	}
	return out
}

func (t *faultTable) list() []Fault {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]Fault{}, t.rules...)
}

func (t *faultTable) replace(rules []Fault) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rules = slices.Clone(rules)
}

// refusing tells whether a rule keeps the listener closed, and whether connections go too.
func (t *faultTable) refusing() (refuse, down bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.rules {
		refuse = refuse || r.closesListener()
		down = down || r.Kind == Down
	}
	return refuse, down
}

// drop takes one timed Refuse or Down away.
func (t *faultTable) drop(f Fault) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.rules, f); i >= 0 {
		t.rules = slices.Delete(t.rules, i, i+1)
	}
}

func (t *faultTable) addTimer(timer *time.Timer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timers = append(t.timers, timer)
}

func (t *faultTable) stopTimers() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, timer := range t.timers {
		timer.Stop()
	}
	t.timers = nil
}

// Faults lists the rules in force, with what is left of Next.
func (b *Bank) Faults() []Fault { return b.faults.list() }

// SetFaults replaces all rules; none mends everything. When it returns, a listener that Refuse or Down closes is closed,
// and one that they no longer close listens again on the same port. Answers already held or late stay so.
func (b *Bank) SetFaults(faults ...Fault) error {
	if err := checkFaults(faults); err != nil {
		return fmt.Errorf("bank: %w", err)
	}
	b.control.Lock()
	defer b.control.Unlock()
	b.faults.stopTimers()
	b.faults.replace(faults)
	if err := b.applyListener(); err != nil {
		return err
	}
	for _, f := range faults {
		if f.closesListener() && f.DelayMS > 0 {
			b.faults.addTimer(time.AfterFunc(f.delay(), func() { b.mend(f) }))
		}
	}
	return nil
}

// mend ends a timed Refuse or Down.
func (b *Bank) mend(f Fault) {
	b.control.Lock()
	defer b.control.Unlock()
	b.faults.drop(f)
	if err := b.applyListener(); err != nil {
		b.log.Error("bank simulator cannot listen again; set the faults again to retry", "error", err)
	}
}
