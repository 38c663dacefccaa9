package issuer

import (
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyward/keyward/internal/httpapi/httpapitest"
)

func TestRoutesAreDocumented(t *testing.T) {
	t.Parallel()
	a, err := New(Options{Reader: struct{ Reader }{}, Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	router, err := a.routes()
	if err != nil {
		t.Fatal(err)
	}
	httpapitest.CheckRoutes(t, router, openAPI)
	if _, err := New(Options{}); err == nil {
		t.Error("made an app of nothing")
	}
}
