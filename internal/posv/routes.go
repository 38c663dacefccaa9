package posv

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/go-chi/chi/v5"

	"github.com/keyward/keyward/internal/hsmops"
	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/internal/registry"
	"github.com/keyward/keyward/internal/service"
)

//go:embed openapi.json
var openAPI []byte

// defaultPage is the length of a list whose reader asks for none.
const defaultPage = 100

// routes is the registry API and the console.
func (a *App) routes() (chi.Router, error) {
	doc, err := hsmops.RelayDocument(openAPI, relayAt)
	if err != nil {
		return nil, err
	}
	r, err := httpapi.NewRouter(a.opt.Log, doc, service.AdminHandler(a.ready, a.opt.Registry, false), a.metrics.observe)
	if err != nil {
		return nil, fmt.Errorf("registry API: %w", err)
	}
	if err := a.hsmRoutes(r); err != nil {
		return nil, err
	}
	r.Group(func(r chi.Router) {
		r.Use(bounded)
		a.console.Routes(r)
		read := func(path string, h httpapi.HandlerFunc) { r.Method(http.MethodGet, path, refusing(h)) }
		read("/v1/overview", a.overview)
		read("/v1/merchants", a.listMerchants)
		read("/v1/merchants/{merchant_id}", a.getMerchant)
		read("/v1/terminals", a.listTerminals)
		read("/v1/terminals/{terminal_id}", a.getTerminal)
		read("/v1/terminals/{terminal_id}/bindings", a.listBindings)
		read("/v1/terminals/{terminal_id}/events", a.listTerminalEvents)
		read("/v1/terminals/{terminal_id}/sign-ons", a.listSignOns)
		read("/v1/cards", a.listCards)
		read("/v1/cards/{psam_no}", a.getCard)
		r.With(a.guard.reads).Method(http.MethodGet, "/v1/orders", refusing(a.listOrders))
		r.With(a.guard.reads).Method(http.MethodGet, "/v1/orders/{order_id}", refusing(a.getOrder))
		read("/v1/audit", a.listAudit)
		read("/v1/audit/head", a.auditHead)

		r.Group(func(r chi.Router) {
			r.Use(a.guard.changes)
			write := func(method, path string, h httpapi.HandlerFunc) { r.Method(method, path, refusing(h)) }
			write(http.MethodPut, "/v1/merchants/{merchant_id}", a.putMerchant)
			write(http.MethodPut, "/v1/terminals/{terminal_id}", a.putTerminal)
			write(http.MethodPost, "/v1/terminals/{terminal_id}/state", a.setTerminalState)
			write(http.MethodPut, "/v1/terminals/{terminal_id}/card", a.bind)
			write(http.MethodDelete, "/v1/terminals/{terminal_id}/card", a.unbind)
			write(http.MethodPost, "/v1/cards/{psam_no}/state", a.setCardState)
			write(http.MethodPost, "/v1/orders/{order_id}/approvals", a.approveOrder)
			write(http.MethodPost, "/v1/orders/{order_id}/withdrawal", a.withdrawOrder)
			r.Method(http.MethodPost, "/v1/cards", a.idempotent(refusing(a.addCard)))
			r.Method(http.MethodPost, "/v1/orders", a.idempotent(refusing(a.createOrder)))
		})
	})
	return r, nil
}

// bounded ends the work on a request in time.
func bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeoutCause(r.Context(), callTimeout, fmt.Errorf("not done within %s", callTimeout))
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// refusing turns what the rules refuse into a problem document.
func refusing(h httpapi.HandlerFunc) httpapi.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		err := h(w, r)
		var refusal *registry.Refusal
		if !errors.As(err, &refusal) {
			return err
		}
		status := map[registry.Kind]int{
			registry.NotFound: http.StatusNotFound, registry.Invalid: http.StatusUnprocessableEntity, registry.Conflict: http.StatusConflict,
		}[refusal.Kind]
		return &httpapi.Error{Status: status, Detail: refusal.Detail, NextStep: refusal.NextStep}
	}
}

// list is a page of anything. Next, when there may be more, is the value of after for the page that follows.
type list[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty"`
}

// writeList answers with a page. A full page names its last key as the next one.
func writeList[T any](w http.ResponseWriter, r *http.Request, items []T, limit int, key func(T) string) {
	page := list[T]{Items: items}
	if page.Items == nil {
		page.Items = []T{}
	}
	if limit > 0 && len(items) == limit {
		page.Next = key(items[len(items)-1])
	}
	httpapi.WriteJSON(w, r, http.StatusOK, page)
}

// pageOf reads limit and after.
func pageOf(r *http.Request) (registry.Page, error) {
	p := registry.Page{After: r.URL.Query().Get("after"), Limit: defaultPage}
	if text := r.URL.Query().Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > registry.MaxPage {
			return p, &httpapi.Error{Status: http.StatusBadRequest, Detail: fmt.Sprintf("limit must be a number from 1 to %d", registry.MaxPage), NextStep: "read the list in pages: use the member next as after"}
		}
		p.Limit = n
	}
	return p, nil
}

// status is 201 for something new.
func status(created bool) int {
	if created {
		return http.StatusCreated
	}
	return http.StatusOK
}
