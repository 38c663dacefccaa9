// Package member holds the words of operating a cluster of HSMs (rows C2 to C6): what a member is told to be, the states it can be
// in, what it reports, the history of switches, and the refusals. The cluster (package hsmclient), its HTTP API, its command line
// and the shared list in PostgreSQL all speak them. It is a data package: nothing here does anything.
package member

import (
	"encoding/json"
	"time"

	"github.com/keyward/keyward/keys"
)

// State is where a member is.
type State string

// The states. Working and Standby are also roles: what a healthy member is told to be.
const (
	Working  State = "working"  // gets traffic
	Standby  State = "standby"  // connected and probed, gets traffic only when the working ones fall below the floor
	Draining State = "draining" // gets no new request, those under way go on
	Suspect  State = "suspect"  // missed a sign of life: no new request until the second probing has decided
	Down     State = "down"     // does not answer, or not yet admitted
	Fenced   State = "fenced"   // answers, but must not get work; Status.Reason says why
)

// Spec is what a member is told to be: an entry of the configuration and of the shared list.
type Spec struct {
	Name   string `json:"name" yaml:"name"`     // unique in the cluster: letters, digits, hyphens, at most 32
	Domain string `json:"domain" yaml:"domain"` // LMK domain; empty: the cluster's default
	Driver string `json:"driver" yaml:"driver"` // racal, pkcs11 …; empty: racal
	Addr   string `json:"addr" yaml:"addr"`     // host:port; for pkcs11 the path of the library
	Role   State  `json:"role" yaml:"role"`     // working, standby, or fenced for one that is to stay out; empty: working
	// Priority decides among working members: 1 first, up to the cluster's maximum; 0 means 1.
	Priority int `json:"priority" yaml:"priority"`
	// Weight shares traffic within a priority: a member of weight 2 gets twice as much; 0 means 1.
	Weight int `json:"weight" yaml:"weight"`
	// Channels is the number of data channels (connections), 0 means 6. Connections is the most that all of this process may hold to the
	// device, second probing included; 0 means Channels and 2.
	Channels    int `json:"channels" yaml:"channels"`
	Connections int `json:"connections" yaml:"connections"`
	// Depth is how many requests may be under way on one channel, where the device echoes labels; 0 means the cluster's default.
	Depth int `json:"depth" yaml:"depth"`
	// Rated is what the device is licensed for, in commands per second; 0 means unknown.
	Rated int `json:"rated" yaml:"rated"`
	// Probe is the host command of the heartbeat, as the driver names it; empty means the driver's default (NC).
	Probe string `json:"probe" yaml:"probe"`
	// Settings are the driver's own, for example header_length (docs/hsm-driver.md).
	Settings map[string]string `json:"settings,omitempty" yaml:"settings"`
	// TLS names PEM files; nil means plain TCP, which a production profile accepts only with Private.
	TLS     *TLS `json:"tls,omitempty" yaml:"tls"`
	Private bool `json:"private,omitempty" yaml:"private"`
}

// TLS names the PEM files of the connection to a member.
type TLS struct {
	Cert       string `json:"cert" yaml:"cert"`
	Key        string `json:"key" yaml:"key"`
	CA         string `json:"ca" yaml:"ca"`
	ServerName string `json:"server_name,omitempty" yaml:"server_name"` // empty: the host of the address
}

// Change is a change of a running member; nil fields stay as they are.
type Change struct {
	Priority *int    `json:"priority,omitempty"`
	Weight   *int    `json:"weight,omitempty"`
	Rated    *int    `json:"rated,omitempty"`
	Probe    *string `json:"probe,omitempty"`
}

// Act says in whose name an operation is done, why, and whether its safety checks are overruled.
type Act struct {
	By     string `json:"by"`
	Reason string `json:"reason,omitempty"`
	Force  bool   `json:"force,omitempty"`
}

// Status is what the cluster knows of a member.
type Status struct {
	Spec   Spec      `json:"spec"`
	State  State     `json:"state"`
	Reason string    `json:"reason,omitempty"` // why it is suspect, down or fenced
	Since  time.Time `json:"since"`            // of the state
	// Warning is what somebody should look at although the member gets work: empty, or sentences with what to do.
	Warning string `json:"warning,omitempty"`
	Fault   *Fault `json:"fault,omitempty"` // what a drill does to it now
	Device  Device `json:"device"`
	Load    Load   `json:"load"`
	// Traffic counts since the member was added.
	Traffic Traffic `json:"traffic"`
	Probing Probing `json:"probing"`
}

// Device is the authorisation data of a device, as it said last.
type Device struct {
	Serial   string    `json:"serial,omitempty"`
	Firmware string    `json:"firmware,omitempty"`
	LMKCheck keys.KCV  `json:"lmk_check,omitempty"`
	SeenAt   time.Time `json:"seen_at,omitzero"`
}

// Load is how busy a member is now.
type Load struct {
	ChannelsOpen int     `json:"channels_open"`
	Pipelined    bool    `json:"pipelined"`  // labels are proven to be echoed
	InFlight     int     `json:"in_flight"`  // requests under way
	Places       int     `json:"places"`     // how many may be
	PerSecond    float64 `json:"per_second"` // commands answered, over the last 10 s
	// Utilisation is PerSecond over Spec.Rated where that is known, else InFlight over Places; 0 to 1 and above.
	Utilisation float64 `json:"utilisation"`
	P50MS       float64 `json:"p50_ms"` // time of a command on the member, last minute
	P99MS       float64 `json:"p99_ms"`
}

// Traffic counts exchanges with a member.
type Traffic struct {
	Commands  uint64            `json:"commands"`
	BytesSent uint64            `json:"bytes_sent"`
	BytesRead uint64            `json:"bytes_read"`
	Failed    map[string]uint64 `json:"failed,omitempty"`     // by error class
	ByCommand map[string]uint64 `json:"by_command,omitempty"` // by capability
	Poisoned  uint64            `json:"poisoned"`             // channels closed because of what came on them
}

// Probing is the health side of a member.
type Probing struct {
	LastAt  time.Time `json:"last_at,omitzero"`
	LastMS  float64   `json:"last_ms"`
	Misses  int       `json:"misses"`             // in a row
	NextAt  time.Time `json:"next_at,omitzero"`   // of the second probing
	LastErr string    `json:"last_err,omitempty"` // of the last failed probe
}

// ProbeResult is what probing now has found.
type ProbeResult struct {
	Member  string  `json:"member"`
	OK      bool    `json:"ok"`
	TookMS  float64 `json:"took_ms"`
	Device  Device  `json:"device"`
	State   State   `json:"state"` // after the probe
	Problem string  `json:"problem,omitempty"`
}

// Phase says whether a switch is announced or done.
type Phase string

// A switch is announced before it takes effect and reported after ("soft switch", row C6).
const (
	Before Phase = "before"
	After  Phase = "after"
)

// Switch is one entry of the history.
type Switch struct {
	Seq    uint64    `json:"seq"` // rising within the process
	At     time.Time `json:"at"`
	Phase  Phase     `json:"phase"`
	Domain string    `json:"domain,omitempty"`
	Member string    `json:"member,omitempty"` // empty: about a whole domain or the engine
	What   string    `json:"what"`             // state, add, remove, priority, probe, standby_engaged, standby_released, engine, monitoring, fault, apply …
	From   string    `json:"from,omitempty"`
	To     string    `json:"to,omitempty"`
	By     string    `json:"by"` // "cluster" or who ordered it
	Reason string    `json:"reason,omitempty"`
}

// FaultKind is a way in which a drill takes a member out (row X5).
type FaultKind string

// The kinds.
const (
	FaultRefuse    FaultKind = "refuse"     // connections are closed and refused
	FaultBlackHole FaultKind = "black_hole" // requests are swallowed, nothing answers
	FaultSlow      FaultKind = "slow"       // answers come late by Delay
	FaultWrongLMK  FaultKind = "wrong_lmk"  // the diagnosis shows another LMK check value
)

// Fault is a simulated failure of a real member, done on our side of the line. It ends by itself.
type Fault struct {
	Kind  FaultKind `json:"kind"`
	Delay Duration  `json:"delay,omitempty"` // of FaultSlow
	Until time.Time `json:"until"`           // it ends then at the latest
}

// Duration is a time.Duration that JSON writes like "250ms".
type Duration time.Duration

// Std gives the standard type.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// MarshalJSON implements json.Marshaler.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// UnmarshalJSON implements json.Unmarshaler.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	v, err := time.ParseDuration(s)
	*d = Duration(v)
	return err
}
