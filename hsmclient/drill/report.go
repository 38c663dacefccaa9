package drill

import (
	"time"

	"github.com/keyward/keyward/hsmclient/member"
)

// The phases in their order.
const (
	phaseBefore = iota // measured without the fault
	phaseDuring        // the fault is in place
	phaseReturn        // the fault has ended, the member is not yet back in its place
	phaseAfter         // measured with the member back
	phases             // their number
)

// phaseNames are the phases in reports and progress.
var phaseNames = [phases]string{"before", "during", "return", "after"}

// Result is the verdict of a check or of a whole drill.
type Result string

// The results.
const (
	Running    Result = "running"    // the drill goes on; no verdict yet
	Passed     Result = "passed"     // within the limits
	Failed     Result = "failed"     // a limit was missed, or the drill had to be ended because it did harm
	Incomplete Result = "incomplete" // ended before its time, or posp ended; nothing measured was beyond a limit
	NotJudged  Result = "not_judged" // of a check that says nothing here; Check.Note has the reason
)

// Counts are numbers of requests.
type Counts struct {
	Served  uint64 `json:"served"`  // answered, refusals for the caller's own fault included
	Retried uint64 `json:"retried"` // sent to a second member because the first failed; they count as served or failed, too
	Failed  uint64 `json:"failed"`
	// InDoubt are requests that must never be repeated and have no answer: what they have done is not known, and their callers know that.
	InDoubt uint64 `json:"in_doubt"`
}

func (c Counts) plus(d Counts) Counts {
	return Counts{Served: c.Served + d.Served, Retried: c.Retried + d.Retried, Failed: c.Failed + d.Failed, InDoubt: c.InDoubt + d.InDoubt}
}

func (c Counts) all() uint64 { return c.Served + c.Failed + c.InDoubt }

// Measured are the requests of one source in one phase. Percentiles are within 5 %.
type Measured struct {
	Counts
	PerSecond float64 `json:"per_second"`
	P50MS     float64 `json:"p50_ms"`
	P95MS     float64 `json:"p95_ms"`
	P99MS     float64 `json:"p99_ms"`
	MaxMS     float64 `json:"max_ms"`
}

// Phase is a part of the drill: before, during, return, after. Times count from Report.Started.
type Phase struct {
	Name    string   `json:"name"`
	FromMS  float64  `json:"from_ms"`
	ToMS    float64  `json:"to_ms"`
	Traffic Measured `json:"traffic"`
	Own     Measured `json:"own"`
	GapMS   float64  `json:"gap_ms"` // the longest time in which no request was answered
}

// Point is a short span of time in the curves, at AtMS after Report.Started.
type Point struct {
	AtMS         float64 `json:"at_ms"`
	Traffic      Counts  `json:"traffic"`
	Own          Counts  `json:"own"`
	TrafficP50MS float64 `json:"traffic_p50_ms"`
	TrafficP99MS float64 `json:"traffic_p99_ms"`
	OwnP50MS     float64 `json:"own_p50_ms"`
	OwnP99MS     float64 `json:"own_p99_ms"`
}

// Event is an entry of the time line: a step of the drill (What is a word of steps) or a switch of the cluster.
type Event struct {
	AtMS   float64      `json:"at_ms"`
	Step   string       `json:"step,omitempty"` // of the drill: begin, fault, clear, healthy, restore, end
	Phase  member.Phase `json:"phase,omitempty"`
	Member string       `json:"member,omitempty"`
	What   string       `json:"what,omitempty"`
	From   string       `json:"from,omitempty"`
	To     string       `json:"to,omitempty"`
	By     string       `json:"by,omitempty"`
	Reason string       `json:"reason,omitempty"`
}

// Seen is a member of the domain as the drill found it.
type Seen struct {
	Name      string       `json:"name"`
	State     member.State `json:"state"`
	Priority  int          `json:"priority"`
	Rated     int          `json:"rated,omitempty"`
	PerSecond float64      `json:"per_second"`
	Firmware  string       `json:"firmware,omitempty"`
	Serial    string       `json:"serial,omitempty"`
}

// Times are what the drill is about, in ms; nil: did not happen.
type Times struct {
	DetectionMS *float64 `json:"detection_ms"` // from the fault to the member being suspect or worse
	DecidedMS   *float64 `json:"decided_ms"`   // from the fault to the member being down or fenced
	SwitchMS    *float64 `json:"switch_ms"`    // from the fault to the end of the last request that it delayed or failed; 0: none was
	RecoveryMS  *float64 `json:"recovery_ms"`  // from the end of the fault to the member being healthy
	RestoredMS  *float64 `json:"restored_ms"`  // from the end of the fault to the member being in its former state
}

// Check is one line of the verdict.
type Check struct {
	Name     string   `json:"name"` // taken_out, detection, switch, failed, latency, recovery, restored
	Unit     string   `json:"unit"` // ms, requests, times, state
	Limit    float64  `json:"limit"`
	Measured *float64 `json:"measured"`
	Result   Result   `json:"result"`
	Note     string   `json:"note,omitempty"`
}

// Report is the result of a drill.
type Report struct {
	ID       string    `json:"id"`
	Cluster  string    `json:"cluster"`
	Instance string    `json:"instance"`
	Domain   string    `json:"domain"`
	Request  Request   `json:"request"`
	By       string    `json:"by"`
	Reason   string    `json:"reason,omitempty"`
	Forced   bool      `json:"forced"`
	OwnLoad  bool      `json:"own_load"` // the drill made requests itself
	Started  time.Time `json:"started"`
	Ended    time.Time `json:"ended,omitzero"`
	Verdict  Result    `json:"verdict"`
	Cause    string    `json:"cause,omitempty"` // why it ended before its time
	JudgedBy string    `json:"judged_by"`       // traffic or own: whose latency the verdict takes
	Times    Times     `json:"times"`
	Checks   []Check   `json:"checks"`
	Phases   []Phase   `json:"phases"`
	Members  []Seen    `json:"members"`
	Events   []Event   `json:"events"`
	SlotMS   float64   `json:"slot_ms"` // length of a point
	Points   []Point   `json:"points"`
}
