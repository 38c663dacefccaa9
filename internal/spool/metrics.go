package spool

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// fsyncBuckets reach from a drive with a protected cache (0.1 ms) to one that is failing (13 s).
var fsyncBuckets = prometheus.ExponentialBuckets(0.0001, 2, 18)

type metrics struct {
	reg                         prometheus.Registerer
	records, bytes, fsyncs      prometheus.Counter
	refusals                    prometheus.Counter
	fsyncSeconds                prometheus.Histogram
	pendingRecords, pendingSize prometheus.Gauge
}

// newMetrics registers the collectors; a nil reg leaves them unregistered.
func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "keyward", Subsystem: "spool", Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "keyward", Subsystem: "spool", Name: name, Help: help})
	}
	m := &metrics{
		reg:      reg,
		records:  counter("appended_records_total", "Records appended."),
		bytes:    counter("appended_bytes_total", "Bytes appended, record heads included."),
		fsyncs:   counter("fsyncs_total", "Calls of fsync on segments and the acknowledgement file."),
		refusals: counter("full_refusals_total", "Appends and admissions refused because the spool or its disk is full."),
		fsyncSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "keyward", Subsystem: "spool", Name: "fsync_seconds",
			Help: "Duration of one fsync, failures included.", Buckets: fsyncBuckets,
		}),
		pendingRecords: gauge("pending_records", "Records that are not acknowledged yet."),
		pendingSize:    gauge("pending_bytes", "Bytes of segment files not yet removed: what the size limit counts."),
	}
	if reg == nil {
		return m, nil
	}
	for i, c := range m.all() {
		if err := reg.Register(c); err != nil {
			for _, done := range m.all()[:i] {
				reg.Unregister(done)
			}
			return nil, fmt.Errorf("register spool metrics (give each spool of a process its own labels): %w", err)
		}
	}
	return m, nil
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.records, m.bytes, m.fsyncs, m.refusals, m.fsyncSeconds, m.pendingRecords, m.pendingSize}
}

// unregister lets the same registerer serve the next spool.
func (m *metrics) unregister() {
	if m.reg == nil {
		return
	}
	for _, c := range m.all() {
		m.reg.Unregister(c)
	}
}
