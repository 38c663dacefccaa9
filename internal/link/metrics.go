package link

import (
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// registered remembers what was registered, so that a stopped link can give its names back (HSM members come and go).
type registered struct {
	reg  prometheus.Registerer
	list []prometheus.Collector
	once sync.Once
}

// newRegistered labels everything with the name of the link.
func newRegistered(reg prometheus.Registerer, name string) *registered {
	if reg == nil {
		return &registered{}
	}
	return &registered{reg: prometheus.WrapRegistererWith(prometheus.Labels{"link": name}, reg)}
}

// all registers every collector, or none of them.
func (r *registered) all(cs ...prometheus.Collector) error {
	if r.reg == nil {
		return nil
	}
	for _, c := range cs {
		if err := r.reg.Register(c); err != nil {
			r.unregister()
			return fmt.Errorf("register metrics (is the name used twice?): %w", err)
		}
		r.list = append(r.list, c)
	}
	return nil
}

// unregister gives the names back.
func (r *registered) unregister() {
	r.once.Do(func() {
		for _, c := range r.list {
			r.reg.Unregister(c)
		}
	})
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "keyward", Subsystem: "link", Name: name, Help: help})
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "keyward", Subsystem: "link", Name: name, Help: help})
}

func counterVec(name, help, label string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "keyward", Subsystem: "link", Name: name, Help: help}, []string{label})
}

// labelled are the counters of all values of a label, so that each starts at zero.
func labelled[L ~string](vec *prometheus.CounterVec, values []L) map[L]prometheus.Counter {
	out := make(map[L]prometheus.Counter, len(values))
	for _, v := range values {
		out[v] = vec.WithLabelValues(string(v))
	}
	return out
}

// serverMetrics are the counters of one server.
type serverMetrics struct {
	*registered
	open, inFlight              prometheus.Gauge
	frames, panics, writeErrors prometheus.Counter
	refused, ended              map[string]prometheus.Counter
	handshakeErrors             map[side]prometheus.Counter
	badFrames                   map[Reason]prometheus.Counter
}

func newServerMetrics(reg prometheus.Registerer, name string) (*serverMetrics, error) {
	bad := counterVec("server_bad_frames_total", "Connections closed for what they carried, by reason.", "reason")
	refused := counterVec("server_connections_refused_total", "Connections closed at once because there are too many, in all or from their address.", "reason")
	ended := counterVec("server_connections_ended_total", "Connections ended because the peer was idle, lost, or did not take its answer in time.", "reason")
	handshakes := counterVec("server_handshake_errors_total", "TLS handshakes that failed, by the side whose certificate was refused.", "side")
	m := &serverMetrics{
		registered:      newRegistered(reg, name),
		open:            gauge("server_connections", "Open connections."),
		inFlight:        gauge("server_in_flight", "Handlers running."),
		frames:          counter("server_frames_total", "Frames handed to the handler."),
		refused:         labelled(refused, []string{refusedTotal, refusedAddress}),
		ended:           labelled(ended, []string{endedIdle, endedLost, endedSlowReader}),
		panics:          counter("server_panics_total", "Handlers that panicked."),
		writeErrors:     counter("server_write_errors_total", "Answers that could not be handed to the socket whole."),
		handshakeErrors: labelled(handshakes, sides),
		badFrames:       labelled(bad, reasons),
	}
	return m, m.all(m.open, m.inFlight, m.frames, m.panics, m.writeErrors, refused, ended, handshakes, bad)
}

// clientMetrics are the counters of one client.
type clientMetrics struct {
	*registered
	connected                                  prometheus.Gauge
	connects, failures, answered, late, strays prometheus.Counter
	failed                                     map[Outcome]prometheus.Counter
}

func newClientMetrics(reg prometheus.Registerer, name string) (*clientMetrics, error) {
	failed := counterVec("client_failed_total", "Requests that failed, by what is known about them.", "outcome")
	m := &clientMetrics{
		registered: newRegistered(reg, name),
		connected:  gauge("client_connected", "1 while the connection is usable."),
		connects:   counter("client_connects_total", "Connections that became usable."),
		failures:   counter("client_connect_failures_total", "Attempts to connect that failed, sign-on included."),
		answered:   counter("client_answered_total", "Requests that were answered."),
		late:       counter("client_late_answers_total", "Answers that came after their request was given up."),
		strays:     counter("client_stray_answers_total", "Answers that belong to no request, or could not be read."),
		failed:     map[Outcome]prometheus.Counter{},
	}
	for _, o := range []Outcome{NotSent, Unknown} {
		m.failed[o] = failed.WithLabelValues(o.String())
	}
	return m, m.all(m.connected, m.connects, m.failures, m.answered, m.late, m.strays, failed)
}
