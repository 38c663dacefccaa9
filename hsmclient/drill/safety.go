package drill

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyward/keyward/hsmclient/member"
)

// reserve is the part of their capacity up to which the other members may be used during a drill: traffic is never even.
const reserve = 0.9

// healthy says that a member is in service or ready for it.
func healthy(s member.State) bool { return s == member.Working || s == member.Standby }

// safe refuses a drill that would harm service; the order's force overrules it, but not what makes a drill impossible.
func safe(act member.Act, target member.Status, all []member.Status) error {
	name := target.Spec.Name
	if target.Fault != nil {
		return member.Refuse(member.Conflict, "clear it, or wait until it ends", "%s has a simulated fault already", name)
	}
	if !healthy(target.State) {
		return member.Refuse(member.Conflict, "bring it into service first, or choose another member", "%s is %s: there is nothing to take out", name, target.State)
	}
	if act.Force {
		return nil
	}
	others := sameDomain(target, all)
	if target.State == member.Working && !slices.ContainsFunc(others, isWorking) {
		return member.Refuse(member.Unsafe, "add or mend another member, or force the drill"+standbyHint(others),
			"%s is the last working member of domain %s", name, target.Spec.Domain)
	}
	if need, have, unit := load(target, others); need > have*reserve {
		return member.Refuse(member.Unsafe, "wait for quieter hours, add a member, or force the drill",
			"without %s the other members of domain %s could not carry the present load: %s of %s %s", name, target.Spec.Domain, plain(need), plain(have), unit)
	}
	return nil
}

func isWorking(s member.Status) bool { return s.State == member.Working }

// sameDomain gives the other members of the target's domain.
func sameDomain(target member.Status, all []member.Status) (others []member.Status) {
	for _, s := range all {
		if s.Spec.Domain == target.Spec.Domain && s.Spec.Name != target.Spec.Name {
			others = append(others, s)
		}
	}
	return others
}

// standbyHint names who would take over when the last working member goes.
func standbyHint(others []member.Status) string {
	var names []string
	for _, s := range others {
		if s.State == member.Standby {
			names = append(names, s.Spec.Name)
		}
	}
	if names == nil {
		return "; no member would be left, so every request would fail"
	}
	return fmt.Sprintf("; %s would be engaged", strings.Join(names, ", "))
}

// load compares what the domain does now with what the others can do: commands per second where all of them are rated, else places.
func load(target member.Status, others []member.Status) (need, have float64, unit string) {
	rated := true
	var perSecond, capacity, inFlight, places float64
	for _, s := range others {
		perSecond += s.Load.PerSecond
		inFlight += float64(s.Load.InFlight)
		if healthy(s.State) {
			capacity += float64(s.Spec.Rated)
			places += float64(s.Load.Places)
			rated = rated && s.Spec.Rated > 0
		}
	}
	if rated && capacity > 0 {
		return perSecond + target.Load.PerSecond, capacity, "commands per second"
	}
	return inFlight + float64(target.Load.InFlight), places, "places for requests"
}

const causeService = "the service stopped"

// unfit says why the fault must not begin.
func (d *run) unfit() string {
	var failed uint64
	for _, from := range []source{traffic, own} {
		failed += d.meter.totals(from).Failed
	}
	if failed > 0 && !d.act.Force {
		return fmt.Sprintf("%d requests failed before the fault: a system in trouble is left alone", failed)
	}
	target, err := d.r.cfg.Cluster.Member(d.target)
	if err == nil {
		err = safe(d.act, target, d.r.cfg.Cluster.Members())
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// against says what speaks against going on.
func (d *run) against() string {
	d.mu.Lock()
	attended, lease := d.attended, d.report.Request.Lease.Std()
	d.mu.Unlock()
	if lease > 0 && time.Since(attended) > lease {
		return fmt.Sprintf("nobody has asked for the progress for %s: the operator's connection is taken for lost", lease)
	}
	if d.injectedAt.IsZero() || !d.clearedAt.IsZero() {
		return ""
	}
	if n := d.meter.failedTraffic(); n >= d.report.Request.AbortAfter {
		d.harm = true
		return fmt.Sprintf("%d requests of the running system have failed", n)
	}
	if d.act.Force {
		return ""
	}
	for _, s := range d.r.cfg.Cluster.Members() {
		if s.Spec.Domain == d.report.Domain && s.Spec.Name != d.target && healthy(s.State) {
			return ""
		}
	}
	d.harm = true
	return "no other member of the domain is healthy any more"
}
