package hsmlist

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what monitoring sees of the list.
type metrics struct {
	version, away prometheus.Gauge
	failed, lost  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, group string) (*metrics, error) {
	labels := prometheus.Labels{"hsm_group": group}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels})
	}
	m := &metrics{
		version: gauge("keyward_hsm_list_version", "Version of the member list in force; 0: that of the configuration."),
		away:    gauge("keyward_hsm_list_database_away", "1 while the shared member list cannot be asked."),
		failed:  counter("keyward_hsm_list_failed_total", "Saved lists that could not be brought into force, each try."),
		lost:    counter("keyward_hsm_history_lost_total", "History entries given up because the database was away for too long."),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range m.all() {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("hsm list: metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.version, m.away, m.failed, m.lost}
}

func (m *metrics) unregister(reg prometheus.Registerer) {
	if reg == nil {
		return
	}
	for _, c := range m.all() {
		reg.Unregister(c)
	}
}
