package core

import (
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyward/keyward/internal/posp/host"
	"github.com/keyward/keyward/internal/txn"
)

// refusal is why an answer was not used; it is also the metric label.
type refusal string

const (
	badFormat   refusal = "format"       // cannot be decoded, or has no response code
	badMAC      refusal = "mac"          // MAC wrong or missing
	notVerified refusal = "not_verified" // the HSM could not check the MAC
	mismatch    refusal = "mismatch"     // speaks of another amount, card, terminal …
	unknownCode refusal = "code"         // a response code that is not in our table
)

// exchangeBuckets span a bank in the same room to the host time-out, in seconds.
var exchangeBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

// metrics are the collectors of one host.
type metrics struct {
	exchanges *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
	connected prometheus.Gauge
	strays    prometheus.Counter
	refused   map[refusal]prometheus.Counter

	reg  prometheus.Registerer
	list []prometheus.Collector
	once sync.Once
}

func newMetrics(reg prometheus.Registerer, name string) (*metrics, error) {
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "keyward_host_refused_answers_total", Help: "Answers that were not used, by reason.",
	}, []string{"reason"})
	m := &metrics{
		exchanges: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keyward_host_exchanges_total", Help: "Exchanges with the host, by kind and outcome.",
		}, []string{"kind", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "keyward_host_exchange_seconds", Help: "Time of an exchange, both MACs included.", Buckets: exchangeBuckets,
		}, []string{"kind"}),
		connected: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "keyward_host_connected", Help: "1 while connected and signed on.",
		}),
		strays: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "keyward_host_stray_answers_total", Help: "Answers that came late or twice, or that belong to no request.",
		}),
		refused: map[refusal]prometheus.Counter{},
	}
	for _, r := range []refusal{badFormat, badMAC, notVerified, mismatch, unknownCode} {
		m.refused[r] = refused.WithLabelValues(string(r))
	}
	kinds := []string{kindReversal, string(txn.ScriptResult)}
	for kind := range forms {
		kinds = append(kinds, string(kind))
	}
	for _, kind := range kinds {
		m.seconds.WithLabelValues(kind)
		for _, o := range []txn.Outcome{txn.Answered, txn.NotSent, txn.Unknown} {
			m.exchanges.WithLabelValues(kind, string(o))
		}
	}
	if reg == nil {
		return m, nil
	}
	m.reg = prometheus.WrapRegistererWith(prometheus.Labels{"host": name}, reg)
	for _, c := range []prometheus.Collector{m.exchanges, m.seconds, m.connected, m.strays, refused} {
		if err := m.reg.Register(c); err != nil {
			m.unregister()
			return nil, fmt.Errorf("register metrics (is the name used twice?): %w", err)
		}
		m.list = append(m.list, c)
	}
	return m, nil
}

// observe is deferred, so that failures are counted too.
func (m *metrics) observe(kind string, began time.Time, result *host.Result) {
	m.exchanges.WithLabelValues(kind, string(result.Outcome)).Inc()
	m.seconds.WithLabelValues(kind).Observe(time.Since(began).Seconds())
}

func (m *metrics) setConnected(yes bool) {
	if yes {
		m.connected.Set(1)
		return
	}
	m.connected.Set(0)
}

// unregister gives the names back.
func (m *metrics) unregister() {
	m.once.Do(func() {
		for _, c := range m.list {
			m.reg.Unregister(c)
		}
	})
}
