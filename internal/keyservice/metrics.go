package keyservice

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the key service. Numbers of cards are never labels.
type metrics struct {
	operations *prometheus.CounterVec // labels: operation (derive, export), result (done, refused, failed)
	mismatches prometheus.Counter     // to be alarmed on the first
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keyward_keys_operations_total", Help: "Requests to derive card keys and to export them into cards, by result.",
		}, []string{"operation", "result"}),
		mismatches: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "keyward_keys_kcv_mismatch_total", Help: "Keys whose check value was not the stored one. Alarm on the first.",
		}),
	}
	for _, c := range []prometheus.Collector{m.operations, m.mismatches} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("metrics of the key service: %w", err)
		}
	}
	return m, nil
}
