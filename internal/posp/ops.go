package posp

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/keyward/keyward/internal/hsmops"
	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/internal/posp/route"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/keys"
)

// sealUsage is the usage of the configured sealing key.
const sealUsage = keys.Seal

//go:embed openapi.json
var openAPI []byte

// eventPing is how often an idle event stream shows a sign of life, so that dead listeners are noticed.
const eventPing = 15 * time.Second

// eventWrite is how long one event may take to a listener.
const eventWrite = 10 * time.Second

func (a *App) startOps(ctx context.Context) error {
	l := a.opt.Config.Operations
	if l.Addr == "" {
		return nil
	}
	router, err := a.routes()
	if err != nil {
		return err
	}
	cfg := httpapi.ServerConfig{Name: "operations API", Addr: l.Addr, Handler: router, Log: a.opt.Log}
	if l.TLS != nil {
		if cfg.TLS, err = httpapi.ServerTLS(l.TLS.Cert, string(l.TLS.Key), l.TLS.CA); err != nil {
			return fmt.Errorf("operations API: %w", err)
		}
	}
	if a.ops, err = httpapi.NewServer(cfg); err != nil {
		return err
	}
	if err := a.ops.Start(ctx); err != nil {
		return err
	}
	a.life.Add("operations API", stopTime, a.ops.Stop)
	a.life.Go("operations API listener", stopTime, a.ops.Wait)
	return nil
}

// routes is the operations API: health, metrics, events, status, routing, and the relay to the key service.
func (a *App) routes() (chi.Router, error) {
	doc := openAPI
	if a.opt.Operation != nil {
		var err error
		if doc, err = hsmops.Document(openAPI, hsmops.DrillOpenAPI); err != nil {
			return nil, err
		}
	}
	if a.opt.Routing != nil {
		var err error
		if doc, err = route.Document(doc); err != nil {
			return nil, err
		}
	}
	r, err := httpapi.NewRouter(a.opt.Log, doc, service.AdminHandler(a.ready, a.opt.Registry, false))
	if err != nil {
		return nil, fmt.Errorf("operations API: %w", err)
	}
	if a.opt.Operation != nil {
		a.opt.Operation.Mount(r)
	}
	if a.opt.Routing != nil {
		a.opt.Routing.Mount(r)
	}
	r.Method(http.MethodGet, "/v1/status", httpapi.HandlerFunc(a.status))
	r.Method(http.MethodGet, "/v1/events", httpapi.HandlerFunc(a.eventStream))
	if a.opt.Relay != nil {
		// posp only relays: it holds no right to derive or export, and it adds none to what the issuer sends (P1).
		r.Method(http.MethodPost, "/v1/cards", a.opt.Relay)
		r.Method(http.MethodGet, "/v1/cards/{psam}", a.opt.Relay)
		r.Method(http.MethodPost, "/v1/cards/{psam}/scripts", a.opt.Relay)
	}
	return r, nil
}

// Status is what GET /v1/status answers.
type Status struct {
	Instance      string    `json:"instance"`
	Version       string    `json:"version"`
	Time          time.Time `json:"time"`
	Terminals     int       `json:"terminals"`
	SignedOn      int       `json:"signed_on"`
	DeviceTable   string    `json:"device_table_age"`
	DatabaseAway  bool      `json:"database_away"`
	ReversalsOwed int       `json:"reversals_owed"`
}

func (a *App) status(w http.ResponseWriter, r *http.Request) error {
	f := a.flow
	httpapi.WriteJSON(w, r, http.StatusOK, Status{
		Instance: a.opt.Config.Instance, Version: service.Version(), Time: a.opt.Now(), Terminals: f.devices.Len(),
		SignedOn: f.keys.Table.Len(), DeviceTable: f.devices.Age(a.opt.Now()).Round(time.Millisecond).String(),
		DatabaseAway: f.journal.DatabaseAway(), ReversalsOwed: f.reversals.Owed(),
	})
	return nil
}

// eventStream sends the latest messages and then each new one as server-sent events (HTML standard, §9.2).
func (a *App) eventStream(w http.ResponseWriter, r *http.Request) error {
	recent, events, end, ok := a.flow.events.Listen()
	if !ok {
		return &httpapi.Error{
			Status: http.StatusServiceUnavailable, Detail: "too many event streams are open",
			NextStep: "close one of them and try again",
		}
	}
	defer end()
	control := http.NewResponseController(w)
	// A stream has no end, but each write has: a listener that does not read is let go.
	_ = control.SetWriteDeadline(time.Now().Add(eventWrite))
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	for _, e := range recent {
		if writeEvent(w, e) != nil {
			return nil
		}
	}
	if control.Flush() != nil {
		return nil
	}
	ping := time.NewTicker(eventPing)
	defer ping.Stop()
	for {
		var err error
		select {
		case <-r.Context().Done():
			return nil
		case <-a.stopping:
			return nil
		case <-ping.C:
			_ = control.SetWriteDeadline(time.Now().Add(eventWrite))
			_, err = w.Write([]byte(": ping\n\n"))
		case e := <-events:
			_ = control.SetWriteDeadline(time.Now().Add(eventWrite))
			err = writeEvent(w, e)
		}
		if err != nil || control.Flush() != nil {
			return nil
		}
	}
}

func writeEvent(w http.ResponseWriter, e Event) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "data: %s\n\n", b)
	return err
}
