package hsmops

import (
	_ "embed"
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/keyward/keyward/hsmclient/drill"
	"github.com/keyward/keyward/internal/httpapi"
)

// DrillOpenAPI describes the routes of drills, for Document.
//
//go:embed drills.json
var DrillOpenAPI []byte

// pagePolicy lets a report use its own styles and nothing else: it has no scripts and asks for nothing.
const pagePolicy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

// DrillOrder starts a failure drill (row X5).
type DrillOrder struct {
	Order
	drill.Request
}

// DrillRoutes serves failure drills, for Options.More.
func DrillRoutes(drills *drill.Runner) func(Routes) {
	return func(r Routes) {
		r.Read("/drills", func(w http.ResponseWriter, req *http.Request) error { return page(w, req, drills.List()) })
		r.Write("/drills", func(w http.ResponseWriter, req *http.Request) error {
			var in DrillOrder
			act, err := read(w, req, &in, &in.Order)
			if err != nil {
				return err
			}
			p, err := drills.Start(act, in.Request)
			return answerDrill(w, req, http.StatusCreated, p, err)
		})
		r.Read("/drills/{id}", func(w http.ResponseWriter, req *http.Request) error {
			p, err := drills.Progress(chi.URLParam(req, "id"))
			return answerDrill(w, req, http.StatusOK, p, err)
		})
		r.Write("/drills/{id}/stop", func(w http.ResponseWriter, req *http.Request) error {
			var in Order
			act, err := read(w, req, &in, &in)
			if err != nil {
				return err
			}
			p, err := drills.Stop(act, chi.URLParam(req, "id"))
			return answerDrill(w, req, http.StatusOK, p, err)
		})
		r.Read("/drills/{id}/report.json", func(w http.ResponseWriter, req *http.Request) error {
			rep, err := drills.Report(chi.URLParam(req, "id"))
			if err != nil {
				return err
			}
			httpapi.WriteJSON(w, req, http.StatusOK, rep)
			return nil
		})
		r.Read("/drills/{id}/report.html", func(w http.ResponseWriter, req *http.Request) error {
			rep, err := drills.Report(chi.URLParam(req, "id"))
			if err != nil {
				return err
			}
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.Header().Set("Content-Security-Policy", pagePolicy)
			w.Header().Set("X-Content-Type-Options", "nosniff")
			return rep.WriteHTML(w)
		})
	}
}

func answerDrill(w http.ResponseWriter, r *http.Request, status int, p drill.Progress, err error) error {
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, r, status, p)
	return nil
}
