// Package exchangelog is the journal of every exchange with an HSM (row C9): which command went to which member on which channel,
// how long it took and how it ended. It never holds keys, PINs or message content: a record has lengths and codes only.
package exchangelog

import "time"

// Exchange is one host command and its answer, or the lack of one.
type Exchange struct {
	Serial   string        // unique across the cluster: instance, start of the process, counter
	At       time.Time     // when the command was handed to the channel
	Group    string        // the cluster's name, for example online
	Member   string        // name of the device
	Channel  int           // number of the channel, from 1; 0 is the second probing
	Command  string        // the host command's code, for example CA
	For      string        // the capability that it serves, for example translate_pin, or probe
	Sent     int           // bytes of the request, without frame
	Received int           // bytes of the answer, 0 without one
	Took     time.Duration // until the answer or the failure
	// Result is the device's code ("00"), or one of: no_answer, not_sent, poisoned, cancelled, dropped (a late answer of a request that was
	// repeated elsewhere).
	Result string
}
