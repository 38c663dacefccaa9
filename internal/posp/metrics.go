package posp

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the front end's collectors. Kinds and codes are bounded lists; terminals and cards are never labels.
type metrics struct {
	messages    *prometheus.CounterVec
	latency     *prometheus.HistogramVec
	framing     prometheus.Counter
	malformed   prometheus.Counter
	macFailures prometheus.Counter
	duplicates  prometheus.Counter
	unresolved  prometheus.Counter
	weaker      prometheus.Counter
	singleDES   prometheus.Counter
	pinsRefused prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	count := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "posp_messages_total", Help: "Messages of terminals by kind and response code.",
		}, []string{"kind", "code"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "posp_message_seconds", Help: "Time from frame to answer, by kind.",
			Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .25, .5, 1, 2, 5, 10, 30},
		}, []string{"kind"}),
		framing:     count("posp_framing_faults_total", "Connections closed for a bad TPDU or header."),
		malformed:   count("posp_malformed_total", "Messages answered 30."),
		macFailures: count("posp_mac_failures_total", "Messages with a wrong MAC."),
		duplicates:  count("posp_duplicates_total", "Messages that repeat an earlier one, or its trace number."),
		unresolved:  count("posp_unresolved_total", "Transactions of unknown outcome that people settle (table reversals, action reconcile)."),
		weaker:      count("posp_weaker_requests_total", "Sign-ons that asked for another algorithm than the registry has."),
		pinsRefused: count("posp_pins_refused_total", "PINs that were one too many for their card or terminal."),
		singleDES:   count("posp_single_des_sign_ons_total", "Sign-ons of old terminals with single DES keys."),
	}
	for _, kind := range []string{"sign-on", "purchase", "balance inquiry", "reversal"} {
		m.messages.WithLabelValues(kind, codeOK)
		m.latency.WithLabelValues(kind)
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.messages, m.latency, m.framing, m.malformed, m.macFailures, m.duplicates, m.unresolved, m.weaker, m.singleDES, m.pinsRefused} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register posp metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) message(kind, code string, took time.Duration) {
	m.messages.WithLabelValues(kind, code).Inc()
	m.latency.WithLabelValues(kind).Observe(took.Seconds())
}
