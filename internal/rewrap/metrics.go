package rewrap

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of moving keys. Numbers of keys and jobs are never labels.
type metrics struct {
	keys *prometheus.CounterVec // label result: copied, different, switched, returned, erased
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{keys: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "keyward_rewrap_keys_total", Help: "Keys on their way to another LMK domain, by what came of it. Alarm on the first that is different.",
	}, []string{"result"})}
	for _, result := range []string{"copied", "different", "switched", "returned", "erased"} {
		m.keys.WithLabelValues(result)
	}
	if reg == nil {
		return m, nil
	}
	if err := reg.Register(m.keys); err != nil {
		return nil, fmt.Errorf("metrics of moving keys: %w", err)
	}
	return m, nil
}
