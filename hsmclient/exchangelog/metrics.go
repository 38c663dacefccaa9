package exchangelog

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	registerer prometheus.Registerer
	list       []prometheus.Collector

	records, bytes, failures, unfit, removed prometheus.Counter
	lost                                     map[Reason]prometheus.Counter
	on, files                                prometheus.Gauge
}

// newMetrics makes the collectors of one journal, with every series from the start.
func newMetrics(group string) *metrics {
	m := &metrics{lost: map[Reason]prometheus.Counter{}}
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{
			Namespace: "keyward", Subsystem: "hsm_journal", Name: name, Help: help, ConstLabels: prometheus.Labels{"group": group},
		}
	}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts(opts(name, help)))
		m.list = append(m.list, c)
		return c
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts(opts(name, help)))
		m.list = append(m.list, g)
		return g
	}
	m.records = counter("records_total", "Exchanges written to the journal's files.")
	m.bytes = counter("bytes_total", "Bytes written to the journal's files.")
	m.failures = counter("failures_total", "Failed file operations of the journal; each is tried again.")
	m.unfit = counter("unfit_texts_total", "Texts that are no code or name and were left out of a record; anything above zero is a defect of a driver.")
	m.removed = counter("removed_files_total", "Files removed because of their number, size or age.")
	m.on = gauge("on", "1 while exchanges are recorded.")
	m.files = gauge("files", "Files of this journal.")
	lost := prometheus.NewCounterVec(prometheus.CounterOpts(opts("lost_total", "Exchanges left out of the journal.")), []string{"reason"})
	m.list = append(m.list, lost)
	for _, r := range reasons {
		m.lost[r] = lost.WithLabelValues(string(r))
	}
	return m
}

func (m *metrics) register(registerer prometheus.Registerer) error {
	if registerer == nil {
		return nil
	}
	m.registerer = registerer
	for i, c := range m.list {
		if err := registerer.Register(c); err != nil {
			m.list = m.list[:i]
			m.unregister()
			return fmt.Errorf("exchange journal: register metrics (does the group have two journals?): %w", err)
		}
	}
	return nil
}

// unregister gives the names back.
func (m *metrics) unregister() {
	if m.registerer == nil {
		return
	}
	for _, c := range m.list {
		m.registerer.Unregister(c)
	}
}
