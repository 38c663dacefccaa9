// Package hsmopstest holds what tests of the HSM operation need: a cluster and a list in memory that note what is ordered, and a
// listener with mutual TLS where several people have certificates.
package hsmopstest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/internal/hsmlist"
)

// Cluster is a cluster in memory. It does what is ordered without devices, and refuses what Refuse holds.
type Cluster struct {
	mu      sync.Mutex
	members []member.Status
	engine  member.Engine
	history []member.Switch
	calls   []string
	// Refuse, when not nil, is the error of every change. Set it before use.
	Refuse error
}

// NewCluster has the members hsm1 (working), hsm2 (standby) and hsm3 (fenced) in domain dev.
func NewCluster() *Cluster {
	now := time.Now()
	c := &Cluster{engine: member.Engine{
		Name: "online", Instance: "posp-1", Running: true, Monitoring: true, Since: now, Members: 3, MaxMembers: 64, MaxPrio: 16, Serial: 4711,
		Domains: []member.DomainStatus{{Domain: "dev", LMKCheck: "2686047444912422", Places: 96, InFlight: 3, PerSecond: 120, Utilisation: 0.41, Forecast: member.Forecast{Text: "no saturation in sight"}}},
	}}
	for i, state := range []member.State{member.Working, member.Standby, member.Fenced} {
		s := member.Status{
			Spec:  member.Spec{Name: fmt.Sprintf("hsm%d", i+1), Domain: "dev", Driver: "racal", Addr: fmt.Sprintf("127.0.0.1:1500%d", i+1), Role: member.Working, Priority: i + 1},
			State: state, Since: now.Add(-time.Hour),
			Device: member.Device{Serial: fmt.Sprintf("SIM0000%d", i+1), Firmware: "0001-0900", LMKCheck: "2686047444912422", SeenAt: now},
			Load:   member.Load{ChannelsOpen: 6, Pipelined: true, InFlight: 3 - i, Places: 96, PerSecond: 120, Utilisation: 0.41, P50MS: 1.2, P99MS: 2.1},
		}
		c.members = append(c.members, s)
	}
	c.members[2].Reason, c.members[2].Device.LMKCheck = "LMK check value 1111111111111111, the domain has 2686047444912422", "1111111111111111"
	return c
}

// Calls are the changes that were ordered: "remove hsm1 by li.na (why) forced".
func (c *Cluster) Calls() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string{}, c.calls...)
}

// order notes a change and refuses it where the test wants that.
func (c *Cluster) order(act member.Act, format string, args ...any) error {
	text := fmt.Sprintf(format, args...) + " by " + act.By
	if act.Reason != "" {
		text += " (" + act.Reason + ")"
	}
	if act.Force {
		text += " forced"
	}
	c.calls = append(c.calls, text)
	if c.Refuse != nil {
		return c.Refuse
	}
	what, name, _ := strings.Cut(text, " ")
	name, _, _ = strings.Cut(name, " ")
	c.history = append(c.history, member.Switch{
		Seq: uint64(len(c.history) + 1), At: time.Now(), Phase: member.After, Domain: "dev", Member: name, What: what, By: act.By, Reason: act.Reason,
	})
	return nil
}

// on finds a member and has do change it.
func (c *Cluster) on(act member.Act, name string, do func(*member.Status), format string, args ...any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.members {
		if c.members[i].Spec.Name == name {
			err := c.order(act, format, args...)
			if err == nil {
				do(&c.members[i])
			}
			return err
		}
	}
	return unknown(name)
}

func unknown(name string) error {
	return member.Refuse(member.NotFound, "see posp hsm list for the members", "there is no member %s", name)
}

// Engine implements hsmops.Cluster, as all that follow.
func (c *Cluster) Engine() member.Engine {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.engine
	e.Members = len(c.members)
	return e
}

func (c *Cluster) set(act member.Act, do func(*member.Engine), format string, args ...any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.order(act, format, args...)
	if err == nil {
		do(&c.engine)
	}
	return err
}

// StartEngine switches on.
func (c *Cluster) StartEngine(act member.Act) error {
	return c.set(act, func(e *member.Engine) { e.Running = true }, "engine start")
}

// StopEngine switches off.
func (c *Cluster) StopEngine(_ context.Context, act member.Act) error {
	return c.set(act, func(e *member.Engine) { e.Running = false }, "engine stop")
}

// SetMonitoring switches the heartbeats.
func (c *Cluster) SetMonitoring(act member.Act, on bool) error {
	return c.set(act, func(e *member.Engine) { e.Monitoring = on }, "monitoring %t", on)
}

// SetJournal switches the journal.
func (c *Cluster) SetJournal(act member.Act, on bool) error {
	return c.set(act, func(e *member.Engine) { e.Journal = on }, "journal %t", on)
}

// Members lists.
func (c *Cluster) Members() []member.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]member.Status{}, c.members...)
}

// Member finds.
func (c *Cluster) Member(name string) (member.Status, error) {
	for _, s := range c.Members() {
		if s.Spec.Name == name {
			return s, nil
		}
	}
	return member.Status{}, unknown(name)
}

// Add adds.
func (c *Cluster) Add(_ context.Context, act member.Act, spec member.Spec) error {
	if _, err := c.Member(spec.Name); err == nil {
		return member.Refuse(member.Conflict, "choose another name", "there is a member %s already", spec.Name)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.order(act, "add %s %s %s", spec.Name, spec.Domain, spec.Addr)
	if err == nil {
		c.members = append(c.members, member.Status{Spec: spec, State: member.Working, Since: time.Now()})
	}
	return err
}

// Remove removes.
func (c *Cluster) Remove(_ context.Context, act member.Act, name string) error {
	if err := c.on(act, name, func(*member.Status) {}, "remove %s", name); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, s := range c.members {
		if s.Spec.Name == name {
			c.members = append(c.members[:i:i], c.members[i+1:]...)
			break
		}
	}
	return nil
}

// SetState sets.
func (c *Cluster) SetState(_ context.Context, act member.Act, name string, to member.State) error {
	return c.on(act, name, func(s *member.Status) { s.State, s.Reason = to, "" }, "state %s %s", name, to)
}

// Modify changes.
func (c *Cluster) Modify(act member.Act, name string, ch member.Change) error {
	return c.on(act, name, func(s *member.Status) {
		for to, from := range map[*int]*int{&s.Spec.Priority: ch.Priority, &s.Spec.Weight: ch.Weight, &s.Spec.Rated: ch.Rated} {
			if from != nil {
				*to = *from
			}
		}
		if ch.Probe != nil {
			s.Spec.Probe = *ch.Probe
		}
	}, "modify %s", name)
}

// Probe finds every member but hsm3 in order.
func (c *Cluster) Probe(_ context.Context, name string) (member.ProbeResult, error) {
	s, err := c.Member(name)
	if err != nil {
		return member.ProbeResult{}, err
	}
	return member.ProbeResult{Member: name, OK: s.State != member.Fenced, TookMS: 1.5, Device: s.Device, State: s.State, Problem: s.Reason}, nil
}

// Inject simulates a failure.
func (c *Cluster) Inject(act member.Act, name string, f member.Fault) error {
	return c.on(act, name, func(s *member.Status) { s.Fault = &f }, "fault %s %s", name, f.Kind)
}

// Clear ends it.
func (c *Cluster) Clear(act member.Act, name string) error {
	return c.on(act, name, func(s *member.Status) { s.Fault = nil }, "clear %s", name)
}

// Queues has one domain.
func (c *Cluster) Queues() []member.Queues {
	return []member.Queues{{
		Domain: "dev", Limit: 1024, Requests: []member.WaitingClass{{Class: "transaction"}, {Class: "sign_on", Waiting: 2, OldestMS: 4}},
		Sent: []member.SentQueue{{Member: "hsm1", InFlight: 3, OldestMS: 1.1}},
	}}
}

// ClearQueue clears two.
func (c *Cluster) ClearQueue(act member.Act, domain string, kind member.QueueKind) (int, error) {
	if domain != "dev" {
		return 0, member.Refuse(member.NotFound, "see posp hsm engine for the domains", "there is no LMK domain %s", domain)
	}
	return 2, c.set(act, func(*member.Engine) {}, "clear-queue %s %s", domain, kind)
}

// History is newest first.
func (c *Cluster) History(limit int) []member.Switch {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []member.Switch
	for i := len(c.history) - 1; i >= 0 && len(out) < limit; i-- {
		out = append(out, c.history[i])
	}
	return out
}

// List is a shared list in memory. Err, when not nil, is the error of its next calls.
type List struct {
	Cluster *Cluster
	Err     error

	mu       sync.Mutex
	versions []hsmlist.Version
}

// Status implements hsmops.List, as all that follow.
func (l *List) Status() hsmlist.Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return hsmlist.Status{Group: "online", Instance: "posp-1", Origin: hsmlist.Stored, Version: int64(len(l.versions)), Stored: int64(len(l.versions)), Unsaved: len(l.Cluster.Calls()) > 0}
}

// Save keeps the members.
func (l *List) Save(_ context.Context, act member.Act, base int64) (hsmlist.Version, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch n := int64(len(l.versions)); {
	case l.Err != nil:
		return hsmlist.Version{}, l.Err
	case base >= 0 && base != n:
		return hsmlist.Version{}, member.Refuse(member.Conflict, "look at the members", "version %d was saved by somebody", n)
	}
	v := hsmlist.Version{Group: "online", Version: int64(len(l.versions) + 1), SavedBy: act.By, Instance: "posp-1", Reason: act.Reason, SavedAt: time.Now()}
	for _, s := range l.Cluster.Members() {
		v.Members = append(v.Members, s.Spec)
	}
	l.versions = append(l.versions, v)
	return v, nil
}

// Versions are newest first.
func (l *List) Versions(_ context.Context, limit int) ([]hsmlist.Version, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []hsmlist.Version
	for i := len(l.versions) - 1; i >= 0 && len(out) < limit; i-- {
		out = append(out, l.versions[i])
	}
	return out, l.Err
}

// History is the cluster's.
func (l *List) History(_ context.Context, f hsmlist.Filter) ([]hsmlist.Entry, error) {
	var out []hsmlist.Entry
	for _, s := range l.Cluster.History(f.Limit) {
		out = append(out, hsmlist.Entry{ID: int64(s.Seq), Group: "online", Instance: "posp-1", Switch: s})
	}
	return out, l.Err
}
