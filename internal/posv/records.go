package posv

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/keyward/keyward/internal/audit"
	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/internal/posv/orders"
)

func (a *App) createOrder(w http.ResponseWriter, r *http.Request) error {
	var body orders.Draft
	if err := httpapi.DecodeJSON(w, r, &body); err != nil {
		return err
	}
	o, err := a.orders.Create(r.Context(), actorOf(r.Context()).name, body)
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, r, http.StatusCreated, o)
	return nil
}

func (a *App) approveOrder(w http.ResponseWriter, r *http.Request) error {
	who := actorOf(r.Context())
	if err := a.guard.mayApprove(who); err != nil {
		return err
	}
	o, err := a.orders.Approve(r.Context(), who.name, chi.URLParam(r, "order_id"))
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, r, http.StatusOK, o)
	return nil
}

func (a *App) withdrawOrder(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Reason string `json:"reason"`
	}
	if err := httpapi.DecodeJSON(w, r, &body); err != nil {
		return err
	}
	o, err := a.orders.Withdraw(r.Context(), actorOf(r.Context()).name, chi.URLParam(r, "order_id"), body.Reason)
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, r, http.StatusOK, o)
	return nil
}

func (a *App) getOrder(w http.ResponseWriter, r *http.Request) error {
	o, err := a.orders.Get(r.Context(), chi.URLParam(r, "order_id"))
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, r, http.StatusOK, o)
	return nil
}

func (a *App) listOrders(w http.ResponseWriter, r *http.Request) error {
	p, err := pageOf(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	items, err := a.orders.List(r.Context(), orders.Filter{PSAM: q.Get("psam_no"), State: q.Get("state"), Page: p})
	if err != nil {
		return err
	}
	writeList(w, r, items, p.Limit, func(o orders.Order) string { return o.ID })
	return nil
}

func (a *App) listAudit(w http.ResponseWriter, r *http.Request) error {
	p, err := pageOf(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	f := audit.Filter{Limit: p.Limit, Actor: q.Get("actor"), Action: q.Get("action"), Object: q.Get("object"), Service: q.Get("service"), Newest: q.Get("order") == "newest"}
	if p.After != "" {
		if f.After, err = strconv.ParseInt(p.After, 10, 64); err != nil || f.After < 0 {
			return &httpapi.Error{Status: http.StatusBadRequest, Detail: "after must be the number of a record", NextStep: "use the member next of the page before"}
		}
	}
	if since := q.Get("since"); since != "" {
		if f.Since, err = time.Parse(time.RFC3339, since); err != nil {
			return &httpapi.Error{Status: http.StatusBadRequest, Detail: "since is not a time", NextStep: fmt.Sprintf("write it like %s", "2026-01-31T08:00:00+08:00")}
		}
	}
	records, err := audit.List(r.Context(), a.pool, f)
	if err != nil {
		return err
	}
	writeList(w, r, records, p.Limit, func(rec audit.Record) string { return strconv.FormatInt(rec.Seq, 10) })
	return nil
}

func (a *App) auditHead(w http.ResponseWriter, r *http.Request) error {
	head, err := audit.ReadHead(r.Context(), a.pool)
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, r, http.StatusOK, head)
	return nil
}
