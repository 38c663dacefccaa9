package posv

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyward/keyward/internal/hsmops"
	"github.com/keyward/keyward/internal/httpapi/httpapitest"
	"github.com/keyward/keyward/internal/posv/console"
)

func TestRoutesAreDocumented(t *testing.T) {
	t.Parallel()
	a, err := New(Options{Registry: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	if a.guard, err = newGuard(Config{}); err != nil {
		t.Fatal(err)
	}
	a.console = &console.Console{}
	r, err := a.routes()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := hsmops.RelayDocument(openAPI, relayAt)
	if err != nil {
		t.Fatal(err)
	}
	httpapitest.CheckRoutes(t, r, doc)
}
