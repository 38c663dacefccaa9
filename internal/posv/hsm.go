package posv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/keyward/keyward/internal/audit"
	"github.com/keyward/keyward/internal/hsmlist"
	"github.com/keyward/keyward/internal/hsmops"
	"github.com/keyward/keyward/internal/httpapi"
)

const (
	// relayTimeout bounds a relayed operation: posp drains for up to 60 s. It stays below the write time-out of our servers (90 s).
	relayTimeout = 75 * time.Second
	// maxRelayed bounds what is passed back: the report of a drill has some hundred KiB.
	maxRelayed = 8 << 20
	// relayAt is where the HSM operation of a service is served.
	relayAt = "/v1/posps/{posp}"
	// relayPolicy lets the page of a drill's report show its own styles and do nothing else. It is posv's own word: what a service answers would
	// otherwise run in the console's name, with the certificate of whoever looks at it.
	relayPolicy = "sandbox; default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)

// pospView is one entry of GET /v1/posps.
type pospView struct {
	Name string `json:"name"`
	URL  string `json:"url"`
}

// openPOSPs makes a client of the HSM operation of each configured service.
func (a *App) openPOSPs() error {
	a.posps = map[string]*hsmops.Client{}
	for _, p := range a.opt.Config.POSPs {
		cfg := hsmops.ClientConfig{URL: p.URL}
		if p.TLS != nil {
			cfg.Cert, cfg.Key, cfg.CA = p.TLS.Cert, string(p.TLS.Key), p.TLS.CA
		}
		c, err := hsmops.NewClient(cfg)
		if err != nil {
			return fmt.Errorf("posps: %s: %w", p.Name, err)
		}
		a.posps[p.Name] = c
		a.life.Add("HSM operation of "+p.Name, stopTime, func(context.Context) error { c.Close(); return nil })
	}
	return nil
}

// hsmRoutes relays the HSM operation of every service, and shows the history of all of them. Looks at it are guarded as those at orders:
// the services themselves show it to certificates only, the key service to those of its clients and operators, and posv's own certificate
// opens both.
func (a *App) hsmRoutes(r chi.Router) error {
	reads, changes, err := hsmops.RelayPaths(relayAt)
	if err != nil {
		return err
	}
	look := r.With(a.guard.reads)
	look.Method(http.MethodGet, "/v1/posps", httpapi.HandlerFunc(a.listPOSPs))
	look.Method(http.MethodGet, "/v1/hsm/history", httpapi.HandlerFunc(a.hsmHistory))
	look.Method(http.MethodGet, "/v1/hsm/lists", httpapi.HandlerFunc(a.hsmLists))
	for _, path := range reads {
		look.Method(http.MethodGet, path, httpapi.HandlerFunc(a.relayRead))
	}
	for _, path := range changes {
		r.With(a.guard.changes).Method(http.MethodPost, path, httpapi.HandlerFunc(a.relayChange))
	}
	return nil
}

func (a *App) listPOSPs(w http.ResponseWriter, r *http.Request) error {
	items := []pospView{}
	for _, p := range a.opt.Config.POSPs {
		items = append(items, pospView{p.Name, p.URL})
	}
	writeList(w, r, items, 0, func(p pospView) string { return p.Name })
	return nil
}

// hsmHistory is the history of all instances of both groups, from the database.
func (a *App) hsmHistory(w http.ResponseWriter, r *http.Request) error {
	f, err := hsmops.FilterOf(r.URL.Query())
	if err != nil {
		return err
	}
	items, err := hsmlist.History(r.Context(), a.pool, f)
	if err != nil {
		return err
	}
	writeList(w, r, items, 0, func(hsmlist.Entry) string { return "" })
	return nil
}

// hsmLists are the saved lists of a group.
func (a *App) hsmLists(w http.ResponseWriter, r *http.Request) error {
	p, err := pageOf(r)
	if err != nil {
		return err
	}
	group := r.URL.Query().Get("group")
	switch group {
	case "":
		group = "online"
	case "online", "issuing":
	default:
		return &httpapi.Error{Status: http.StatusBadRequest, Detail: "there is no group of this name", NextStep: "use online or issuing"}
	}
	items, err := hsmlist.Versions(r.Context(), a.pool, group, p.Limit)
	if err != nil {
		return err
	}
	writeList(w, r, items, 0, func(hsmlist.Version) string { return "" })
	return nil
}

// pospOf is the service that a path names, and the path there.
func (a *App) pospOf(r *http.Request) (name string, c *hsmops.Client, path string, err error) {
	name = chi.URLParam(r, "posp")
	c, ok := a.posps[name]
	if !ok {
		return name, nil, "", &httpapi.Error{Status: http.StatusNotFound, Detail: "there is no service of this name", NextStep: "see GET /v1/posps, or name it under posps in posv's configuration"}
	}
	_, path, _ = strings.Cut(r.URL.Path, "/"+name+"/hsm")
	return name, c, path, nil
}

func (a *App) relayRead(w http.ResponseWriter, r *http.Request) error {
	name, c, path, err := a.pospOf(r)
	if err != nil {
		return err
	}
	_, err = a.relay(w, r, c, name, path, "", nil)
	return err
}

// relayChange passes a change on in the name of the operator, with an audit record before and after it: what was ordered must be known
// also when no answer comes.
func (a *App) relayChange(w http.ResponseWriter, r *http.Request) error {
	name, c, path, err := a.pospOf(r)
	if err != nil {
		return err
	}
	who := actorOf(r.Context())
	if a.guard.production && !who.proven {
		return &httpapi.Error{
			Status: http.StatusForbidden, Detail: "a change of HSMs needs a client certificate in production: a header proves nobody",
			NextStep: "give the listener tls and use the operator's own certificate",
		}
	}
	var order map[string]any
	if r.ContentLength != 0 {
		if err := httpapi.DecodeJSON(w, r, &order); err != nil {
			return err
		}
	}
	body := []byte("{}")
	if order != nil {
		if body, err = json.Marshal(order); err != nil {
			return err
		}
	}
	object := name + path
	if err := audit.Append(r.Context(), a.pool, who.name, "hsm.ordered", object, map[string]any{"order": withoutSettings(order)}); err != nil {
		return &httpapi.Error{Status: http.StatusServiceUnavailable, Detail: "the audit cannot be written; nothing was done", NextStep: "try again in a moment; in need use posp hsm on the machine", Cause: err}
	}
	status, err := a.relay(w, r, c, name, path, who.name, body)
	action := "hsm.done"
	if err != nil || status >= http.StatusBadRequest {
		action = "hsm.refused"
	}
	after, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), callTimeout)
	defer cancel()
	if err := audit.Append(after, a.pool, who.name, action, object, map[string]any{"status": status}); err != nil {
		a.opt.Log.ErrorContext(r.Context(), "HSM operation: its result is not in the audit", "object", object, "status", status, "error", err)
	}
	return err
}

// withoutSettings drops the driver settings of a new member, which may name files of the machine. Names count as the service reads them:
// in whatever case.
func withoutSettings(order map[string]any) map[string]any {
	out := map[string]any{}
	for k, v := range order {
		if spec, ok := v.(map[string]any); ok && strings.EqualFold(k, "spec") {
			shown := map[string]any{}
			for name, value := range spec {
				if !strings.EqualFold(name, "settings") && !strings.EqualFold(name, "tls") {
					shown[name] = value
				}
			}
			v = shown
		}
		out[k] = v
	}
	return out
}

// relay sends the request on and passes the answer back; status is 0 without one.
func (a *App) relay(w http.ResponseWriter, r *http.Request, c *hsmops.Client, name, path, operator string, body []byte) (status int, err error) {
	ctx, cancel := context.WithTimeout(r.Context(), relayTimeout)
	defer cancel()
	resp, err := c.Relay(ctx, r.Method, path, r.URL.RawQuery, operator, r.Header.Get("Idempotency-Key"), body)
	var text []byte
	if err == nil {
		defer func() { _ = resp.Body.Close() }() // only read
		text, err = io.ReadAll(io.LimitReader(resp.Body, maxRelayed+1))
		if err == nil && len(text) > maxRelayed {
			err = errors.New("the answer is too long")
		}
	}
	if err != nil {
		var cut *url.Error
		if errors.As(err, &cut) && errors.Is(err, context.Canceled) {
			return 0, err // the client is gone
		}
		return 0, &httpapi.Error{
			Status: http.StatusBadGateway, Detail: name + " does not answer; whether a change was done is not known",
			NextStep: "check that it runs and that posps in posv's configuration is right; look at the member before you order it again", Cause: err,
		}
	}
	for _, h := range []string{"Content-Type", "Idempotent-Replayed", "Cache-Control"} {
		if v := resp.Header.Get(h); v != "" {
			w.Header().Set(h, v)
		}
	}
	w.Header().Set("Content-Security-Policy", relayPolicy)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(text) // fails only when the client is gone
	return resp.StatusCode, nil
}
