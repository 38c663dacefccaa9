package posp

import (
	"log/slog"
	"net/http"
	"testing"

	"github.com/keyward/keyward/internal/hsmops"
	"github.com/keyward/keyward/internal/hsmops/hsmopstest"
	"github.com/keyward/keyward/internal/httpapi/httpapitest"
	"github.com/keyward/keyward/internal/posp/route"
	"github.com/keyward/keyward/internal/service"
)

// TestRoutesAreDocumented holds the operations API against its OpenAPI document.
func TestRoutesAreDocumented(t *testing.T) {
	t.Parallel()
	operation, err := hsmops.New(hsmops.Options{Cluster: hsmopstest.NewCluster()})
	if err != nil {
		t.Fatal(err)
	}
	a := &App{opt: Options{Operation: operation, Relay: http.NotFoundHandler(), Routing: route.NewHandler(nil, slog.New(slog.DiscardHandler)), Log: slog.New(slog.DiscardHandler), Registry: service.NewRegistry()}, ready: &service.Ready{}}
	router, err := a.routes()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := hsmops.Document(openAPI)
	if err != nil {
		t.Fatal(err)
	}
	if doc, err = route.Document(doc); err != nil {
		t.Fatal(err)
	}
	httpapitest.CheckRoutes(t, router, doc)
}
