package keyservice

import (
	"context"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/internal/hsmops"
	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/internal/keystore"
	"github.com/keyward/keyward/internal/order"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/pboc"
)

//go:embed openapi.json
var openAPI []byte

// maxOperator bounds the name that a client gives for the person behind it.
const maxOperator = 64

// caller is who asks. name is the common name of the client's certificate, which TLS has verified; operator is the person whom
// that client names, which nobody has.
type caller struct{ name, operator string }

func callerOf(r *http.Request) caller {
	var c caller
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		c.name = r.TLS.PeerCertificates[0].Subject.CommonName
	}
	if c.name == "" {
		c.name = "unnamed client" // a certificate without a common name
	}
	if o := r.Header.Get("X-Operator"); len(o) <= maxOperator {
		c.operator = o
	}
	return c
}

// admit lets only clients in whose certificate the configuration names.
func (a *App) admit(next http.Handler) http.Handler {
	allowed := a.opt.Config.Clients
	return httpapi.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		if len(allowed) > 0 && !slices.Contains(allowed, callerOf(r).name) {
			return &httpapi.Error{
				Status: http.StatusForbidden, Detail: "the name in the client certificate may not ask the key service",
				NextStep: "go through posp, or have the name added to clients in the key service's configuration",
			}
		}
		next.ServeHTTP(w, r)
		return nil
	})
}

// routes is the whole interface.
func (a *App) routes() (chi.Router, error) {
	doc := openAPI
	if a.opt.Operation != nil {
		var err error
		if doc, err = hsmops.Document(openAPI, hsmops.DrillOpenAPI); err != nil {
			return nil, err
		}
	}
	r, err := httpapi.NewRouter(a.opt.Log, doc, service.AdminHandler(a.ready, a.opt.Registry, false))
	if err != nil {
		return nil, fmt.Errorf("key service: %w", err)
	}
	// Derivation itself is idempotent, so answers need not outlive the process.
	once := httpapi.Idempotency(httpapi.NewMemoryStore(), func(r *http.Request) string { return callerOf(r).name })
	r.With(a.admit, once).Method(http.MethodPost, "/v1/cards", httpapi.HandlerFunc(a.postCard))
	r.With(a.admit).Method(http.MethodGet, "/v1/cards/{psam}", httpapi.HandlerFunc(a.getCard))
	r.With(a.admit).Method(http.MethodPost, "/v1/cards/{psam}/scripts", httpapi.HandlerFunc(a.postScript))
	a.rewrapRoutes(r, once)
	if a.opt.Operation != nil {
		a.opt.Operation.Mount(r)
	}
	return r, nil
}

// keyView is a key as clients see it: no cryptogram.
type keyView struct {
	Name      string         `json:"name"`
	Usage     keys.Usage     `json:"usage"`
	Algorithm keys.Algorithm `json:"algorithm"`
	Version   int            `json:"version"`
	KCV       keys.KCV       `json:"kcv"`
	State     keys.State     `json:"state"`
}

type cardView struct {
	PSAM string    `json:"psam_no"`
	Keys []keyView `json:"keys"`
}

func view(psamNo string, list []keystore.Key) cardView {
	c := cardView{PSAM: psamNo, Keys: []keyView{}}
	for _, k := range list {
		c.Keys = append(c.Keys, keyView{Name: k.Name, Usage: k.Usage, Algorithm: k.Algorithm, Version: k.Version, KCV: k.KCV, State: k.State})
	}
	return c
}

func (a *App) postCard(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		PSAM       string           `json:"psam_no"`
		Order      order.Signed     `json:"order"`
		Algorithms []keys.Algorithm `json:"algorithms"`
	}
	if err := httpapi.DecodeJSON(w, r, &in); err != nil {
		return err
	}
	if err := checkPSAM(in.PSAM); err != nil {
		return err
	}
	if len(in.Algorithms) > 2 || len(in.Algorithms) == 2 && in.Algorithms[0] == in.Algorithms[1] {
		return &httpapi.Error{Status: http.StatusBadRequest, Detail: "algorithms names one twice", NextStep: "name tdes, sm4 or both"}
	}
	ctx, cancel := context.WithTimeout(r.Context(), flowTimeout)
	defer cancel()
	made, err := a.derive(ctx, in.PSAM, in.Order, in.Algorithms, callerOf(r))
	if err := a.result("derive", err); err != nil {
		return err
	}
	httpapi.WriteJSON(w, r, http.StatusCreated, view(in.PSAM, made))
	return nil
}

func (a *App) getCard(w http.ResponseWriter, r *http.Request) error {
	psamNo := chi.URLParam(r, "psam")
	if err := checkPSAM(psamNo); err != nil {
		return err
	}
	list, err := a.store.OfCard(r.Context(), psamNo)
	if err != nil {
		return problem(err)
	}
	if len(list) == 0 {
		return &httpapi.Error{Status: http.StatusNotFound, Detail: "the card has no keys", NextStep: "derive them first: POST /v1/cards"}
	}
	httpapi.WriteJSON(w, r, http.StatusOK, view(psamNo, list))
	return nil
}

func (a *App) postScript(w http.ResponseWriter, r *http.Request) error {
	psamNo := chi.URLParam(r, "psam")
	if err := checkPSAM(psamNo); err != nil {
		return err
	}
	var in struct {
		Order     order.Signed `json:"order"`
		Step      writeStep    `json:"step"`
		Challenge string       `json:"challenge"`
	}
	if err := httpapi.DecodeJSON(w, r, &in); err != nil {
		return err
	}
	switch in.Step {
	case stepCardControl, stepAppControl, stepMaster:
	default:
		return &httpapi.Error{Status: http.StatusBadRequest, Detail: "step is not known", NextStep: "use card-control, application-control or master"}
	}
	challenge, err := hex.DecodeString(in.Challenge)
	if err != nil || len(challenge) != 4 {
		return &httpapi.Error{Status: http.StatusBadRequest, Detail: "challenge must be 8 hex digits", NextStep: "send what the card answered to GET CHALLENGE"}
	}
	ctx, cancel := context.WithTimeout(r.Context(), flowTimeout)
	defer cancel()
	apdu, err := a.script(ctx, psamNo, in.Order, in.Step, [4]byte(challenge), callerOf(r))
	if err := a.result("export", err); err != nil {
		return err
	}
	// The script is a secret of nobody: it is enciphered and fits one challenge of one card.
	httpapi.WriteJSON(w, r, http.StatusOK, map[string]string{"apdu": strings.ToUpper(hex.EncodeToString(apdu))})
	return nil
}

func checkPSAM(psamNo string) error {
	if _, err := pboc.FactorOf(psamNo); err != nil || len(psamNo) != 20 {
		return &httpapi.Error{Status: http.StatusBadRequest, Detail: "psam_no must have 20 digits", NextStep: "use the number as the card prints it, for example 60000000000000000001"}
	}
	return nil
}

// result counts an operation and turns its error into an answer.
func (a *App) result(operation string, err error) error {
	if err == nil {
		a.metrics.operations.WithLabelValues(operation, "done").Inc()
		return nil
	}
	p := problem(err)
	label := "failed"
	if p.Status < http.StatusInternalServerError {
		label = "refused"
	}
	a.metrics.operations.WithLabelValues(operation, label).Inc()
	return p
}

// problem says to the client what a fault of the flow means.
func problem(err error) *httpapi.Error {
	refused := func(status int, detail, next string) *httpapi.Error {
		return &httpapi.Error{Status: status, Detail: detail, NextStep: next, Cause: err}
	}
	if p := moveProblem(err); p != nil {
		return p
	}
	_, fromHSM := errors.AsType[*command.Error](err)
	switch {
	case errors.Is(err, keystore.ErrCheckValue):
		return refused(http.StatusInternalServerError, "the check value of a key differs from the stored one; nothing was changed", "stop issuing and tell the key administrator: HSMs with different LMKs, or a changed database")
	case errors.Is(err, order.ErrExpired):
		return refused(http.StatusForbidden, "the order has expired", "have a new order approved")
	case errors.Is(err, errOrder):
		return refused(http.StatusForbidden, "the order is not valid for this card", "use a signed order of the registry that covers the card and the algorithm")
	case errors.Is(err, keystore.ErrOrderUsedUp):
		return refused(http.StatusConflict, "the order is used up", "have a new order approved; find out first where the cards went")
	case errors.Is(err, keystore.ErrOrderChanged):
		return refused(http.StatusConflict, "another order with this number is known", "have a new order approved")
	case errors.Is(err, errNotDerived):
		return refused(http.StatusConflict, "no key was derived for the card under this order", "derive the keys first: POST /v1/cards with the same order")
	case errors.Is(err, keystore.ErrState):
		return refused(http.StatusConflict, "a key of the card is suspended, retired or destroyed", "look at GET /v1/cards/{psam}; such a card is not issued again")
	case errors.Is(err, errParent):
		return refused(http.StatusServiceUnavailable, "a root key or the maker's transport key is not there or not usable", "import it with: posp keys import")
	case fromHSM:
		return refused(http.StatusServiceUnavailable, "the HSM could not do this", "see /readyz and the log; then send the same request again")
	default:
		return refused(http.StatusServiceUnavailable, "the key service could not do this now", "see /readyz and the log; then send the same request again")
	}
}
