package exchangelog

import (
	"slices"
	"time"
)

// Filter chooses exchanges. Fields that are not set choose all; an exchange must fit every field that is.
type Filter struct {
	Members  []string // one of these
	Commands []string // one of these codes
	For      []string // one of these capabilities
	Results  []string // one of these results
	// Failed leaves out what the device answered with "done": 00, and CKR_OK of PKCS#11 libraries.
	Failed bool
	// AtLeast leaves out what was faster.
	AtLeast time.Duration
	// From and To bound Exchange.At: From itself fits, To does not.
	From, To time.Time
	// Serial chooses one exchange.
	Serial Serial
}

// Match says whether an exchange fits.
func (f *Filter) Match(e *Exchange) bool {
	return f.inTime(e.At, e.At) && oneOf(f.Members, e.Member) && oneOf(f.Commands, e.Command) && oneOf(f.For, e.For) && oneOf(f.Results, e.Result) &&
		!(f.Failed && slices.Contains(doneResults, e.Result)) && e.Took >= f.AtLeast && (f.Serial.IsZero() || f.Serial == e.Serial)
}

// doneResults are what devices say of a command that was done (facts/hsm.md §1.6; PKCS#11).
var doneResults = []string{"00", "CKR_OK"}

// matchGap says whether a gap touches the time asked for. Nobody knows what else was in it.
func (f *Filter) matchGap(g *Gap) bool { return f.inTime(g.From, g.To) }

func (f *Filter) inTime(first, last time.Time) bool {
	return (f.From.IsZero() || !last.Before(f.From)) && (f.To.IsZero() || first.Before(f.To))
}

func oneOf(list []string, s string) bool { return len(list) == 0 || slices.Contains(list, s) }

// clockMargin is how far the times of records may be from those of file names: commands that took long, and a clock that was corrected.
const clockMargin = time.Hour

// ended says that nothing of a file can fit whose successor was begun at next.
func (f *Filter) ended(next time.Time) bool {
	return !f.From.IsZero() && next.Add(clockMargin).Before(f.From)
}

// later says that nothing can fit of a file that was begun at begun, nor of those behind it.
func (f *Filter) later(begun time.Time) bool {
	return !f.To.IsZero() && begun.After(f.To.Add(clockMargin))
}
