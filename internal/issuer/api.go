package issuer

import (
	_ "embed"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/go-chi/chi/v5"

	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/internal/service"
)

//go:embed openapi.json
var openAPI []byte

const (
	defaultList = 50
	maxList     = 500
	maxActor    = 64 // characters of a name in X-Operator
)

// actorOf is who asks: the name in the client's certificate, or on a plain private line the header X-Operator.
func actorOf(r *http.Request) string {
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		return r.TLS.PeerCertificates[0].Subject.CommonName
	}
	if o := r.Header.Get("X-Operator"); o != "" && len(o) <= maxActor {
		return o
	}
	return "dev"
}

// routes is the whole interface.
func (a *App) routes() (chi.Router, error) {
	r, err := httpapi.NewRouter(a.opt.Log, openAPI, service.AdminHandler(a.ready, a.opt.Registry, false))
	if err != nil {
		return nil, fmt.Errorf("issuer API: %w", err)
	}
	// Answers are kept in memory for quick repeats; issue_runs keeps the keys for ever.
	once := httpapi.Idempotency(httpapi.NewMemoryStore(), actorOf)
	r.With(once).Method(http.MethodPost, "/v1/cards", httpapi.HandlerFunc(a.postCard))
	r.Method(http.MethodGet, "/v1/cards/{psam}", httpapi.HandlerFunc(a.getCard))
	r.Method(http.MethodGet, "/v1/runs", httpapi.HandlerFunc(a.getRuns))
	r.Method(http.MethodGet, "/v1/runs/{run_id}", httpapi.HandlerFunc(a.getRun))
	return r, nil
}

func (a *App) postCard(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		PSAM  string `json:"psam_no"`
		Order string `json:"order_id"`
	}
	if err := httpapi.DecodeJSON(w, r, &in); err != nil {
		return err
	}
	if err := checkPSAM(in.PSAM); err != nil {
		return err
	}
	actor := actorOf(r)
	// The actor is part of the key: two people may choose the same one.
	out, err := a.run(r.Context(), request{psamNo: in.PSAM, orderID: in.Order, key: actor + " " + r.Header.Get("Idempotency-Key"), actor: actor})
	if err != nil {
		p := problem(err)
		label := "failed"
		if p.Status < http.StatusInternalServerError {
			label = "refused"
		}
		a.results.WithLabelValues(label).Inc()
		return p
	}
	a.results.WithLabelValues("personalised").Inc()
	httpapi.WriteJSON(w, r, http.StatusCreated, out)
	return nil
}

func (a *App) getCard(w http.ResponseWriter, r *http.Request) error {
	psamNo := chi.URLParam(r, "psam")
	if err := checkPSAM(psamNo); err != nil {
		return err
	}
	list, err := a.runs.list(r.Context(), psamNo, defaultList)
	if err != nil {
		return problem(err)
	}
	var card cardKeys
	err = a.posp.call(r.Context(), actorOf(r), http.MethodGet, "/v1/cards/"+psamNo, "", nil, &card)
	var refusal *peerError
	if errors.As(err, &refusal) && refusal.status == http.StatusNotFound && len(list) > 0 {
		err = nil // a run failed before the keys were derived
	}
	if err != nil {
		return problem(err)
	}
	if card.Keys == nil {
		card.Keys = []keyView{}
	}
	httpapi.WriteJSON(w, r, http.StatusOK, map[string]any{"psam_no": psamNo, "keys": card.Keys, "runs": list})
	return nil
}

func (a *App) getRuns(w http.ResponseWriter, r *http.Request) error {
	psamNo, limit := r.URL.Query().Get("psam_no"), defaultList
	if psamNo != "" {
		if err := checkPSAM(psamNo); err != nil {
			return err
		}
	}
	if text := r.URL.Query().Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxList {
			return &httpapi.Error{Status: http.StatusBadRequest, Detail: "limit must be a number from 1 to 500"}
		}
		limit = n
	}
	list, err := a.runs.list(r.Context(), psamNo, limit)
	if err != nil {
		return problem(err)
	}
	if list == nil {
		list = []Run{}
	}
	httpapi.WriteJSON(w, r, http.StatusOK, map[string]any{"runs": list})
	return nil
}

func (a *App) getRun(w http.ResponseWriter, r *http.Request) error {
	run, err := a.runs.get(r.Context(), chi.URLParam(r, "run_id"))
	if err != nil {
		return problem(err)
	}
	httpapi.WriteJSON(w, r, http.StatusOK, run)
	return nil
}

// psamDigits is the length of a PSAM number (facts/psam.md §2.2).
const psamDigits = 20

func checkPSAM(psamNo string) error {
	ok := len(psamNo) == psamDigits
	for i := range len(psamNo) {
		ok = ok && psamNo[i] >= '0' && psamNo[i] <= '9'
	}
	if !ok {
		return &httpapi.Error{Status: http.StatusBadRequest, Detail: "psam_no must have 20 digits", NextStep: "use the number as the card prints it, for example 60000000000000000001"}
	}
	return nil
}

// problem says to the client what a fault of a run means. Faults that may be over the next time are 5xx, so that the same
// idempotency key may try again.
func problem(err error) *httpapi.Error {
	refused := func(status int, detail, next string) *httpapi.Error {
		return &httpapi.Error{Status: status, Detail: detail, NextStep: next, Cause: err}
	}
	const again = "run the card again: what is done stays done"
	var refusal *peerError
	switch isRefusal := errors.As(err, &refusal); {
	case errors.Is(err, errBusy):
		return refused(http.StatusServiceUnavailable, errBusy.Error(), "wait for it to end; see GET /v1/runs")
	case errors.Is(err, errNoRun):
		return refused(http.StatusNotFound, errNoRun.Error(), "see GET /v1/runs")
	case errors.Is(err, errOtherRun):
		return refused(http.StatusUnprocessableEntity, errOtherRun.Error(), "use a new key for a new card")
	case errors.Is(err, errNoOrder):
		return refused(http.StatusConflict, errNoOrder.Error(), "have an order approved that covers the card's number, and use a new idempotency key")
	case errors.Is(err, errCardState):
		return refused(http.StatusConflict, "the registry says that the card is in service, lost or out of use", "look at the card in the registry; use another card")
	case errors.Is(err, errCardRefuses):
		// The text tells which key and which status word, and holds no secret.
		return refused(http.StatusConflict, err.Error(), "use another card, or find out where this one comes from; then use a new idempotency key")
	case errors.Is(err, errCardGone):
		return refused(http.StatusBadGateway, "the card or the reader does not answer", "check card and reader, then "+again)
	case isRefusal && refusal.status < http.StatusInternalServerError:
		return refused(refusal.status, refusal.peer+": "+refusal.detail, refusal.nextStep)
	case isRefusal:
		return refused(http.StatusBadGateway, refusal.peer+" could not do its part: "+refusal.detail, again)
	case errors.Is(err, errPeerAway):
		return refused(http.StatusBadGateway, "posp, the key service or the registry does not answer", "see their /readyz, then "+again)
	default:
		return refused(http.StatusServiceUnavailable, "the issuer could not do this now", again)
	}
}
