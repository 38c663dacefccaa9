package httpapi

import (
	"log/slog"
	"net/http"

	"github.com/go-chi/chi/v5"
)

// adminPaths are what an admin handler serves (service.AdminHandler).
var adminPaths = []string{"/livez", "/readyz", "/metrics"}

// NewRouter makes the router that every interface starts from: requests are logged, panics answered, unknown paths and methods
// refused with problem documents. It serves the OpenAPI document (JSON) at /openapi.json and admin, when not nil, at /livez,
// /readyz and /metrics. more are further middlewares, the outermost first, inside of the log.
func NewRouter(log *slog.Logger, openAPI []byte, admin http.Handler, more ...func(http.Handler) http.Handler) (chi.Router, error) {
	doc, err := documentHandler(openAPI)
	if err != nil {
		return nil, err
	}
	r := chi.NewRouter()
	r.Use(Log(log), Recover(log))
	r.Use(more...)
	r.NotFound(NotFound)
	r.MethodNotAllowed(methodNotAllowed)
	r.Method(http.MethodGet, "/openapi.json", doc)
	if admin != nil {
		for _, path := range adminPaths {
			r.Method(http.MethodGet, path, admin)
		}
	}
	return r, nil
}
