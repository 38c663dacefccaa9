package control

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/internal/service"
)

//go:embed openapi.json
var openAPI []byte

// commandTime is how long a terminal's command may take to answer: its own bound (5 minutes) and a little. The server's usual write
// time-out is for calls that do not wait for a terminal behind a reversal.
const commandTime = 5*time.Minute + 10*time.Second

// routes is the whole API; openapi.json describes it.
func (a *App) routes() (chi.Router, error) {
	r, err := httpapi.NewRouter(a.log, openAPI, nil, problems)
	if err != nil {
		return nil, err
	}
	get := func(path string, h httpapi.HandlerFunc) { r.Method(http.MethodGet, path, h) }
	post := func(path string, h httpapi.HandlerFunc) { r.Method(http.MethodPost, path, h) }

	get("/livez", func(w http.ResponseWriter, r *http.Request) error { service.Live(w, r); return nil })
	r.Method(http.MethodGet, "/readyz", &a.ready)

	get("/v1/hsms", a.listHSMs)
	r.Method(http.MethodGet, "/v1/hsms/{name}/faults", a.onDevice(getFaults))
	r.Method(http.MethodPut, "/v1/hsms/{name}/faults", a.onDevice(putFaults))
	r.Method(http.MethodDelete, "/v1/hsms/{name}/faults", a.onDevice(mend))
	r.Method(http.MethodPost, "/v1/hsms/{name}/break", a.onDevice(breakHSM))
	r.Method(http.MethodPost, "/v1/hsms/{name}/mend", a.onDevice(mend))
	r.Method(http.MethodGet, "/v1/hsms/{name}/history", a.onDevice(hsmHistory))
	r.Method(http.MethodPost, "/v1/hsms/{name}/release", a.onDevice(release))
	r.Method(http.MethodGet, "/v1/hsms/{name}/held", a.onDevice(a.waitHeld))

	r.Mount("/v1/bank", a.bank.Routes())

	get("/v1/cards", a.cards.list)
	post("/v1/cards", a.cards.blank)
	post("/v1/cards/{psam}/apdu", a.cards.transmit)
	post("/v1/cards/{psam}/reset", a.cards.reset)
	get("/v1/cards/{psam}/history", a.cards.entries)

	terminals := a.fleet.Routes()
	r.Method(http.MethodGet, "/v1/terminals", terminals)
	post("/v1/terminals", a.postTerminal)
	r.Method(http.MethodGet, "/v1/terminals/{id}/history", terminals)
	r.Method(http.MethodPost, "/v1/terminals/{id}/{command}", patient(terminals))

	get("/v1/traffic", a.getTraffic)
	post("/v1/traffic", a.postTraffic)
	r.Method(http.MethodDelete, "/v1/traffic", httpapi.HandlerFunc(a.deleteTraffic))
	return r, nil
}

// patient gives a terminal the time that its command may take.
func patient(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Fails only on a writer without deadlines, in tests; then the server has none either.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(commandTime))
		next.ServeHTTP(w, r)
	})
}

// problems turns the refusals of the bank and the terminals, {"error": text}, into problem documents, so that the API refuses in
// one form. The member "error" stays beside the others for the clients of these simulators (RFC 9457 §3.2 allows more members).
func problems(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := &refusalWriter{ResponseWriter: w}
		next.ServeHTTP(p, r)
		p.flush(r)
	})
}

// refusalWriter keeps back the body of a refusal; everything else passes.
type refusalWriter struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

// Unwrap lets http.ResponseController find the connection.
func (w *refusalWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader keeps the status of a refusal that is not a problem document yet.
func (w *refusalWriter) WriteHeader(status int) {
	if status >= http.StatusBadRequest && w.Header().Get("Content-Type") == "application/json" {
		w.status = status
		return
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write keeps or passes.
func (w *refusalWriter) Write(b []byte) (int, error) {
	if w.status != 0 {
		return w.body.Write(b)
	}
	return w.ResponseWriter.Write(b)
}

func (w *refusalWriter) flush(r *http.Request) {
	if w.status == 0 {
		return
	}
	var refused struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(w.body.Bytes(), &refused) != nil || refused.Error == "" {
		// Readiness answers 503 with a document of its own.
		w.ResponseWriter.WriteHeader(w.status)
		_, _ = w.ResponseWriter.Write(w.body.Bytes()) // fails only when the client is gone
		return
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.ResponseWriter.WriteHeader(w.status)
	_ = json.NewEncoder(w.ResponseWriter).Encode(map[string]any{ // fails only when the client is gone
		"type": "about:blank", "title": http.StatusText(w.status), "status": w.status, "detail": refused.Error, "error": refused.Error,
		"instance": "urn:request:" + httpapi.RequestID(r.Context()),
	})
}
