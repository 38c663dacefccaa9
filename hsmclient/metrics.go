package hsmclient

import (
	"fmt"
	"sort"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/member"
)

// resetReason says why a channel was closed.
type resetReason uint8

const (
	resetMalformed resetReason = iota // what came on it cannot be trusted
	resetSilent                       // nothing came although an answer was due
	resetLost                         // the device or the line closed it
	resetReasons
)

var resetNames = [resetReasons]string{"malformed_answer", "silent", "lost"}

// String gives the label.
func (r resetReason) String() string { return resetNames[r] }

// latencyBuckets reach from a simulator's tenth of a millisecond to the longest time-out, in seconds.
var latencyBuckets = [...]float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}

// tally is the histogram of one operation. It costs two additions for each request, several times less than a shared histogram with
// labels.
type tally struct {
	buckets [len(latencyBuckets) + 1]atomic.Uint64
	sum     atomic.Int64 // nanoseconds
}

func (t *tally) add(d time.Duration) {
	t.buckets[sort.SearchFloat64s(latencyBuckets[:], d.Seconds())].Add(1)
	t.sum.Add(int64(d))
}

// metrics are counted here without locks and shown to Prometheus when it asks.
type metrics struct {
	c          *Cluster
	registered bool

	commands [operations][len(results)]atomic.Uint64
	seconds  [operations]tally
	retries  [operations]atomic.Uint64
	resets   [resetReasons]atomic.Uint64
	desc     descriptions
}

type descriptions struct {
	commands, seconds, retries, resets, inFlight, waiting, queue, shed, channels, state, memberInFlight, utilisation, misses, failed, warning, switches *prometheus.Desc
}

func newMetrics(c *Cluster) (*metrics, error) {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("keyward_hsm_"+name, help, labels, prometheus.Labels{"group": c.cfg.Name})
	}
	m := &metrics{c: c, desc: descriptions{
		commands:       d("commands_total", "HSM commands by result.", "command", "result"),
		seconds:        d("command_seconds", "Time of a command as the caller sees it, waiting and repeats included.", "command"),
		retries:        d("retries_total", "Commands repeated on another member.", "command"),
		resets:         d("channel_resets_total", "Channels that were closed or lost.", "reason"),
		inFlight:       d("in_flight", "Commands on a channel now."),
		waiting:        d("waiting", "Commands that wait for a place now."),
		queue:          d("queue_waiting", "Commands that wait for a place now, by domain and class.", "domain", "class"),
		shed:           d("shed_total", "Commands refused or put out because the queue was full.", "domain"),
		channels:       d("member_channels", "Usable channels of a member.", "member"),
		state:          d("member_state", "1 for the state that the member is in.", "member", "state"),
		memberInFlight: d("member_in_flight", "Commands under way on a member.", "member"),
		utilisation:    d("member_utilisation", "Utilisation of a member, 1 is full.", "member"),
		misses:         d("probe_misses_total", "Heartbeats that a member missed.", "member"),
		failed:         d("member_failed_total", "Requests that failed on a member, by class of the error.", "member", "result"),
		warning:        d("member_warning", "1 when somebody should look at a member although it may get work: posp hsm list says why.", "member"),
		switches:       d("switches_total", "Changes of members and of the engine.", "what"),
	}}
	if c.cfg.Registerer == nil {
		return m, nil
	}
	if err := c.cfg.Registerer.Register(m); err != nil {
		return nil, fmt.Errorf("register metrics (is the name used twice?): %w", err)
	}
	m.registered = true
	return m, nil
}

// unregister gives the names back.
func (m *metrics) unregister() {
	if m.registered {
		m.c.cfg.Registerer.Unregister(m)
	}
}

// observe counts a finished command.
func (m *metrics) observe(op operation, err error, took time.Duration) {
	result := 0
	if err != nil {
		result = int(command.ClassOf(err))
	}
	m.commands[op][result].Add(1)
	m.seconds[op].add(took)
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	d := &m.desc
	for _, desc := range []*prometheus.Desc{
		d.commands, d.seconds, d.retries, d.resets, d.inFlight, d.waiting, d.queue, d.shed, d.channels, d.state, d.memberInFlight, d.utilisation, d.misses,
		d.failed, d.warning, d.switches,
	} {
		ch <- desc
	}
}

// Collect implements prometheus.Collector. Every series of commands is there from the beginning, so that rates work from the first minute.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for op := range operations {
		for i, result := range results {
			ch <- prometheus.MustNewConstMetric(m.desc.commands, prometheus.CounterValue, float64(m.commands[op][i].Load()), op.String(), result)
		}
		ch <- m.seconds[op].metric(m.desc.seconds, op.String())
		ch <- prometheus.MustNewConstMetric(m.desc.retries, prometheus.CounterValue, float64(m.retries[op].Load()), op.String())
	}
	for r := range resetReasons {
		ch <- prometheus.MustNewConstMetric(m.desc.resets, prometheus.CounterValue, float64(m.resets[r].Load()), r.String())
	}
	m.collectPools(ch)
	m.c.history.mu.Lock()
	defer m.c.history.mu.Unlock()
	for what, n := range m.c.history.total {
		ch <- prometheus.MustNewConstMetric(m.desc.switches, prometheus.CounterValue, float64(n), what)
	}
}

func (t *tally) metric(desc *prometheus.Desc, labels ...string) prometheus.Metric {
	counts := map[float64]uint64{}
	all := uint64(0)
	for i := range t.buckets {
		all += t.buckets[i].Load()
		if i < len(latencyBuckets) {
			counts[latencyBuckets[i]] = all
		}
	}
	return prometheus.MustNewConstHistogram(desc, all, time.Duration(t.sum.Load()).Seconds(), counts, labels...)
}

// states are all that a member can be in.
var states = [...]member.State{member.Working, member.Standby, member.Draining, member.Suspect, member.Down, member.Fenced}

func (m *metrics) collectPools(ch chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, v, labels...)
	}
	inFlight, waiting := 0, 0
	for _, domain := range m.c.cfg.Domains {
		q := m.c.pools[domain.Name].queues(time.Now())
		for _, w := range q.Requests {
			waiting += w.Waiting
			gauge(m.desc.queue, float64(w.Waiting), domain.Name, w.Class)
		}
		for _, s := range q.Sent {
			inFlight += s.InFlight
		}
		ch <- prometheus.MustNewConstMetric(m.desc.shed, prometheus.CounterValue, float64(q.Shed), domain.Name)
	}
	gauge(m.desc.inFlight, float64(inFlight))
	gauge(m.desc.waiting, float64(waiting))
	for _, s := range m.c.Members() {
		name := s.Spec.Name
		gauge(m.desc.channels, float64(s.Load.ChannelsOpen), name)
		gauge(m.desc.memberInFlight, float64(s.Load.InFlight), name)
		gauge(m.desc.utilisation, s.Load.Utilisation, name)
		for _, result := range results[1:] {
			ch <- prometheus.MustNewConstMetric(m.desc.failed, prometheus.CounterValue, float64(s.Traffic.Failed[result]), name, result)
		}
		warned := 0.0
		if s.Warning != "" {
			warned = 1
		}
		gauge(m.desc.warning, warned, name)
		for _, state := range states {
			value := 0.0
			if s.State == state {
				value = 1
			}
			gauge(m.desc.state, value, name, string(state))
		}
		if n, err := m.c.node(name); err == nil {
			ch <- prometheus.MustNewConstMetric(m.desc.misses, prometheus.CounterValue, float64(n.missesInAll()), name)
		}
	}
}
