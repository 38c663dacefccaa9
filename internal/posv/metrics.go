package posv

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5/middleware"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics of posv. No label ever names a merchant, terminal or card.
type metrics struct {
	requests *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "posv_request_seconds", Help: "Time to answer requests to the registry API and the console, by method and status class.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 15},
	}, []string{"method", "status"})}
	if reg == nil {
		return m, nil
	}
	if err := reg.Register(m.requests); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	for _, method := range methods {
		for _, class := range []int{2, 4, 5} { // rates work from the first minute
			m.requests.WithLabelValues(method, strconv.Itoa(class)+"xx")
		}
	}
	return m, nil
}

// methods are those that routes use; others share one label.
var methods = []string{http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete}

// observe measures every request, failures included.
func (m *metrics) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
		defer func() {
			method := "other"
			for _, known := range methods {
				if r.Method == known {
					method = known
				}
			}
			m.requests.WithLabelValues(method, strconv.Itoa(max(ww.Status(), http.StatusOK)/100)+"xx").Observe(time.Since(began).Seconds())
		}()
		next.ServeHTTP(ww, r)
	})
}
