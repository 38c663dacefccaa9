package service

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/pprof"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// checkTimeout bounds one readiness check: load balancers ask every few seconds and give up after a few.
const checkTimeout = 2 * time.Second

// Ready answers whether a service can take work: when all its checks pass and it is not draining. Its zero value is ready for
// use. Checks are added before it serves.
type Ready struct {
	mu       sync.Mutex
	checks   []check
	draining atomic.Bool
}

// check is one named condition.
type check struct {
	name string
	ok   func(ctx context.Context) error
}

// checkResult is one line of the answer.
type checkResult struct {
	Name  string `json:"name"`
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
}

// Add registers a check. ok returns nil, or an error that says what is missing, without secrets: everybody who can reach the
// listener reads it.
func (r *Ready) Add(name string, ok func(ctx context.Context) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.checks = append(r.checks, check{name, ok})
}

// Drain makes the answer "not ready" for good, so that load balancers send no more work while the service stops.
func (r *Ready) Drain() { r.draining.Store(true) }

// ServeHTTP answers 200 or 503 with {"ready": …, "checks": [{"name", "ok", "error"}]}.
func (r *Ready) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	results, ready := r.run(req.Context())
	status := http.StatusOK
	if !ready {
		status = http.StatusServiceUnavailable
	}
	answer(w, status, map[string]any{"ready": ready, "checks": results})
}

// run asks all checks at the same time.
func (r *Ready) run(ctx context.Context) ([]checkResult, bool) {
	r.mu.Lock()
	checks := r.checks[:len(r.checks):len(r.checks)]
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	results := make([]checkResult, len(checks), len(checks)+1)
	var wg sync.WaitGroup
	for i, c := range checks {
		wg.Go(func() { results[i] = c.run(ctx) })
	}
	wg.Wait()
	if r.draining.Load() {
		results = append(results, checkResult{Name: "draining", Error: "the service is stopping"})
	}
	for _, c := range results {
		if !c.OK {
			return results, false
		}
	}
	return results, true
}

// run asks one check; one that ignores its ctx counts as failed when the ctx ends.
func (c check) run(ctx context.Context) checkResult {
	result := make(chan error, 1)
	go func() {
		err := guard(func() error { return c.ok(ctx) })
		result <- err
	}()
	select {
	case err := <-result:
		if err == nil {
			return checkResult{Name: c.name, OK: true}
		}
		return checkResult{Name: c.name, Error: redactText(err.Error())}
	case <-ctx.Done():
		return checkResult{Name: c.name, Error: "no answer in time"}
	}
}

// answer writes JSON.
func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // fails only when the client is gone
}

// NewRegistry makes a Prometheus registry of the service's own, with the metrics of Go and the process.
func NewRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// AdminHandler serves what operators ask for, on a mux of its own: GET /livez (200 while the process serves), /readyz, /metrics, and with
// profiling /debug/pprof/. It belongs on a listener that only operators reach.
func AdminHandler(ready *Ready, metrics prometheus.Gatherer, profiling bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", Live)
	mux.Handle("GET /readyz", ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	if profiling {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// Live answers 200 with the version: the process runs and serves.
func Live(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{"live": true, "version": Version()})
}
