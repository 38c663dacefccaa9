package posp

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// accessMetrics count what the front end keeps out. Terminals, merchants and addresses are never labels.
type accessMetrics struct {
	rateLimited    prometheus.Counter
	noStanding     prometheus.Counter
	otherTerminal  prometheus.Counter
	signOnsRefused prometheus.Counter
}

func newAccessMetrics(reg prometheus.Registerer, q *signOnQueue) (*accessMetrics, error) {
	count := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &accessMetrics{
		rateLimited:    count("posp_rate_limited_total", "Messages answered 96 because their terminal sends too many."),
		noStanding:     count("posp_certificates_ended_total", "Connections closed because their certificate was revoked or ended meanwhile."),
		otherTerminal:  count("posp_foreign_terminals_total", "Messages answered 58 because the connection's certificate is another terminal's."),
		signOnsRefused: count("posp_sign_ons_refused_total", "Sign-ons answered 96: too many of one terminal, or no turn in time."),
	}
	if reg == nil {
		return m, nil
	}
	gauge := func(name, help string, of func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(of()) })
	}
	for _, c := range []prometheus.Collector{
		m.rateLimited, m.noStanding, m.otherTerminal, m.signOnsRefused,
		gauge("posp_sign_ons_running", "Sign-ons under way.", func() int { n, _ := q.standing(); return n }),
		gauge("posp_sign_ons_waiting", "Sign-ons that wait for their turn.", func() int { _, n := q.standing(); return n }),
	} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register posp metrics: %w", err)
		}
	}
	return m, nil
}
