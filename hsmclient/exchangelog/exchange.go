// Package exchangelog is the journal of every exchange with an HSM (row C9): which command went to which member on which channel,
// how long it took and how it ended. It never holds keys, PINs or message content: a record has lengths and codes only, and a code
// that could be anything else is not written (line.go).
//
// Writer takes records without ever making its caller wait and writes them to files of one JSON object per line. Files are named by
// the time of their beginning, a new one is begun by size and by age, old ones are removed by number, size and age. What had to be
// left out, because the disk failed or could not keep up or the journal was off, is said in the file itself as a gap. Read
// reads the files again, also while they are written.
//
// Lines reach the operating system within a fraction of a second and then survive the death of the process. They are not
// fsynced: a power cut may take the last seconds.
package exchangelog

import "time"

// Exchange is one host command and its answer, or the lack of one. Times are kept to the microsecond.
type Exchange struct {
	Serial   Serial        // unique across the cluster
	At       time.Time     // when the command was handed to the channel
	Group    string        // the cluster's name, for example online
	Member   string        // name of the device
	Channel  int           // number of the channel, from 1; 0 is the second probing
	Command  string        // the host command's code, for example CA
	For      string        // the capability that it serves, for example translate_pin, or probe
	Sent     int           // bytes of the request, without frame
	Received int           // bytes of the answer, 0 without one
	Took     time.Duration // until the answer or the failure
	Result   string        // the device's code, for example 00, or one of the words below
}

// MarshalJSON implements json.Marshaler: the line of the journal.
func (e Exchange) MarshalJSON() ([]byte, error) {
	line, _ := appendExchange(nil, &e)
	return line[:len(line)-1], nil
}

// Results of exchanges that have no code of a device.
const (
	NoAnswer  = "no_answer" // sent, and nothing came back in time
	NotSent   = "not_sent"  // no byte went out
	Poisoned  = "poisoned"  // the channel was closed because of what came on it
	Cancelled = "cancelled" // the caller gave up
	Dropped   = "dropped"   // a late answer to a request that was repeated elsewhere
)

// Gap says that exchanges are missing from the journal.
type Gap struct {
	Group string
	From  time.Time // when the first of them was left out
	To    time.Time // when the journal went on
	Lost  uint64    // how many
	Why   Reason
}

// MarshalJSON implements json.Marshaler: the line of the journal.
func (g Gap) MarshalJSON() ([]byte, error) {
	line := appendGap(nil, g)
	return line[:len(line)-1], nil
}

// Reason says why exchanges were left out.
type Reason string

// The reasons.
const (
	Overload Reason = "overload" // they came faster than the files could be written
	Disk     Reason = "disk"     // the files could not be written
	Off      Reason = "off"      // the journal was switched off
)

// reasons in the order in which their gaps are written.
var reasons = [...]Reason{gapOverload: Overload, gapDisk: Disk, gapOff: Off}

const (
	gapOverload = iota
	gapDisk
	gapOff
)
