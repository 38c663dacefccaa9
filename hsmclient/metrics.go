package hsmclient

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyward/keyward/hsmclient/command"
)

// operation is a capability as the metrics and early errors name it.
type operation uint8

const (
	opMakeWorkKey operation = iota
	opTranslatePIN
	opMAC
	opVerifyMAC
	opDecryptTrack
	opDiversify
	opExportForCard
	opCheckValue
	opRandom
	opDiagnose
	operations // their number
)

var operationNames = [operations]string{
	"make_work_key", "translate_pin", "mac", "verify_mac", "decrypt_track", "diversify", "export_for_card", "check_value", "random", "diagnose",
}

func (o operation) String() string { return operationNames[o] }

// resetReason says why a channel was closed from this side.
type resetReason string

const (
	resetMalformed resetReason = "malformed_answer"
	resetSilent    resetReason = "silent"
)

// results are the values of the label "result": "ok" and the classes of errors.
var results = [...]string{
	0:                   "ok",
	command.CallerFault: "caller_fault", command.MemberFault: "member_fault", command.NoLicence: "no_licence",
	command.Unavailable: "unavailable", command.Unknown: "unknown",
}

// latencyBuckets reach from a simulator's tenth of a millisecond to the longest time-out.
var latencyBuckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}

type metrics struct {
	registerer prometheus.Registerer
	list       []prometheus.Collector

	commands  [operations][len(results)]prometheus.Counter
	seconds   [operations]prometheus.Observer
	retries   [operations]prometheus.Counter
	inFlight  prometheus.Gauge
	waiting   prometheus.Gauge
	resets    map[resetReason]prometheus.Counter
	members   map[string]prometheus.Gauge
	memberVec *prometheus.GaugeVec
}

func newMetrics(cfg Config) (*metrics, error) {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "keyward", Subsystem: "hsm", Name: name, Help: help, ConstLabels: prometheus.Labels{"group": cfg.Name}}
	}
	commands := prometheus.NewCounterVec(prometheus.CounterOpts(opts("commands_total", "HSM commands by result.")), []string{"command", "result"})
	retries := prometheus.NewCounterVec(prometheus.CounterOpts(opts("retries_total", "Commands repeated on another member.")), []string{"command"})
	resets := prometheus.NewCounterVec(prometheus.CounterOpts(opts("channel_resets_total", "Channels closed from this side.")), []string{"reason"})
	o := opts("command_seconds", "Time of a command as the caller sees it, repeats included.")
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: o.Namespace, Subsystem: o.Subsystem, Name: o.Name, Help: o.Help, ConstLabels: o.ConstLabels, Buckets: latencyBuckets,
	}, []string{"command"})
	m := &metrics{
		inFlight:  prometheus.NewGauge(prometheus.GaugeOpts(opts("in_flight", "Commands on a channel now."))),
		waiting:   prometheus.NewGauge(prometheus.GaugeOpts(opts("waiting", "Commands that wait for a place now."))),
		memberVec: prometheus.NewGaugeVec(prometheus.GaugeOpts(opts("member_channels", "Usable channels of a member.")), []string{"member"}),
		resets:    map[resetReason]prometheus.Counter{},
		members:   map[string]prometheus.Gauge{},
	}
	// Every series is made now, so that rates work from the first minute.
	for op := range operations {
		for i, result := range results {
			m.commands[op][i] = commands.WithLabelValues(op.String(), result)
		}
		m.seconds[op] = seconds.WithLabelValues(op.String())
		m.retries[op] = retries.WithLabelValues(op.String())
	}
	for _, reason := range []resetReason{resetMalformed, resetSilent} {
		m.resets[reason] = resets.WithLabelValues(string(reason))
	}
	return m, m.register(cfg.Registerer, commands, retries, resets, seconds, m.inFlight, m.waiting, m.memberVec)
}

// addMember makes the member's gauge; before Start only.
func (m *metrics) addMember(name string) { m.members[name] = m.memberVec.WithLabelValues(name) }

// observe counts a finished command.
func (m *metrics) observe(op operation, err error, took time.Duration) {
	result := 0
	if err != nil {
		result = int(command.ClassOf(err))
	}
	m.commands[op][result].Inc()
	m.seconds[op].Observe(took.Seconds())
}

func (m *metrics) register(registerer prometheus.Registerer, collectors ...prometheus.Collector) error {
	if registerer == nil {
		return nil
	}
	m.registerer = registerer
	var errs []error
	for _, c := range collectors {
		if err := registerer.Register(c); err != nil {
			errs = append(errs, fmt.Errorf("register metrics (is the name used twice?): %w", err))
			continue
		}
		m.list = append(m.list, c)
	}
	if err := errors.Join(errs...); err != nil {
		m.unregister()
		return err
	}
	return nil
}

// unregister gives the names back.
func (m *metrics) unregister() {
	for _, c := range m.list {
		m.registerer.Unregister(c)
	}
}
