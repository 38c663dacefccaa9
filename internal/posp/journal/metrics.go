package journal

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyward/keyward/internal/ledger"
)

// metrics are the journal's collectors.
type metrics struct {
	records     *prometheus.CounterVec
	fallbacks   prometheus.Counter
	quarantined prometheus.Counter
	away        prometheus.Gauge
	durable     prometheus.Histogram
	commit      prometheus.Histogram
	batch       prometheus.Histogram
}

// commitBuckets span a commit on a fast disk to the database time-out, in seconds.
var commitBuckets = []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .25, .5, 1, 2, 5}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		records: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "posp_journal_records_total", Help: "Journal records written, by event.",
		}, []string{"event"}),
		fallbacks: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "posp_journal_local_fallbacks_total", Help: "Records made durable by the spool because the database did not answer in time.",
		}),
		quarantined: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "posp_journal_quarantined_total", Help: "Records that the database refuses for what they say; they are in the quarantine file.",
		}),
		away: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "posp_journal_database_away", Help: "1 while records are kept locally because the database does not take them.",
		}),
		durable: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "posp_journal_durable_seconds", Help: "Time until a record is durable.", Buckets: commitBuckets,
		}),
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "posp_journal_commit_seconds", Help: "Time of one database commit of a batch of records.", Buckets: commitBuckets,
		}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "posp_journal_batch_records", Help: "Records in one database commit.", Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128, 256},
		}),
	}
	for _, e := range []ledger.Event{
		ledger.Sending, ledger.Outcome, ledger.Answered, ledger.ReversalQueued, ledger.ReversalSent, ledger.ReversalDone, ledger.Note,
	} {
		m.records.WithLabelValues(string(e))
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.records, m.fallbacks, m.quarantined, m.away, m.durable, m.commit, m.batch} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register journal metrics: %w", err)
		}
	}
	return m, nil
}
