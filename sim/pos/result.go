package pos

import (
	"fmt"
	"strconv"
	"time"
)

// Outcome is how a command ended.
type Outcome string

// Outcomes.
const (
	OutcomeApproved Outcome = "approved" // a transaction was approved, or a management command done
	OutcomeDeclined Outcome = "declined" // the host said no
	OutcomeFailed   Outcome = "failed"   // nothing happened on the host's side
	OutcomeInDoubt  Outcome = "in_doubt" // sent, and no usable answer came
)

// Result is what a command did, for people and for programs. Nothing in it is secret.
type Result struct {
	Terminal string    `json:"terminal"`
	Command  string    `json:"command"`
	Time     time.Time `json:"time"`
	Outcome  Outcome   `json:"outcome"`

	Code    string `json:"code,omitempty"` // F39
	Meaning string `json:"meaning,omitempty"`
	// MeaningZH is the Chinese text that a terminal shows.
	MeaningZH string `json:"meaning_zh,omitempty"`

	Trace      string `json:"trace,omitempty"`
	Batch      string `json:"batch,omitempty"`
	RRN        string `json:"rrn,omitempty"`
	AuthCode   string `json:"auth_code,omitempty"`
	PAN        string `json:"pan,omitempty"`         // masked
	AmountFen  int64  `json:"amount_fen,omitempty"`  // 1/100 yuan
	BalanceFen *int64 `json:"balance_fen,omitempty"` // 1/100 yuan, negative for a debit balance

	// Actions is what the terminal did on its own, in order, for example "reversed trace 000007: 00".
	Actions         []string `json:"actions,omitempty"`
	SignedOn        bool     `json:"signed_on"`
	PendingReversal bool     `json:"pending_reversal"`
	Stored          int      `json:"stored,omitempty"` // messages that wait for a host's answer
	// Error says why the command failed or stands in doubt, and what to do.
	Error      string `json:"error,omitempty"`
	DurationMS int64  `json:"duration_ms"`
	Request    *Dump  `json:"request,omitempty"`
	Answer     *Dump  `json:"answer,omitempty"`
}

func (r *Result) did(format string, args ...any) {
	r.Actions = append(r.Actions, fmt.Sprintf(format, args...))
}

// fail marks the command as failed; something that is in doubt stays so.
func (r *Result) fail(err error) {
	if r.Outcome != OutcomeInDoubt {
		r.Outcome = OutcomeFailed
	}
	if r.Error != "" {
		r.Error += "; "
	}
	r.Error += err.Error()
}

// answered takes what an answer says into the result.
func (r *Result) answered(p packet) {
	r.Answer = p.dump()
	r.Code, r.RRN, r.AuthCode = p.fields[39], p.fields[37], p.fields[38]
	r.Meaning, r.MeaningZH = meaning(r.Code)
	r.Outcome = OutcomeDeclined
	if success(r.Code) {
		r.Outcome = OutcomeApproved
	}
	if balance, ok := parseBalance(p.fields[54]); ok {
		r.BalanceFen = &balance
	}
}

// parseBalance reads the first entry of F54: account type 2, amount type 2, currency 3, sign C or D, amount 12
// (facts/unionpay.md §2).
func parseBalance(value string) (int64, bool) {
	const signAt, size = 7, 20
	if len(value) != size {
		return 0, false
	}
	if !digitsOnly(value[signAt+1:]) {
		return 0, false
	}
	amount, err := strconv.ParseInt(value[signAt+1:], 10, 64)
	if err != nil {
		return 0, false
	}
	switch value[signAt] {
	case 'C':
		return amount, true
	case 'D':
		return -amount, true
	default:
		return 0, false
	}
}
