package keyservice

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/go-chi/chi/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/internal/rewrap"
	"github.com/keyward/keyward/keys"
)

// rewrapConfig chooses the devices that move keys: the group made for it, else the issuing group where that can translate. Keys leave a
// device, under a zone master key, from a group made for it only (P1).
func (a *App) rewrapConfig(pool *pgxpool.Pool) rewrap.Config {
	cfg := rewrap.Config{Pool: pool, Check: a.opt.HSM, Log: a.opt.Log, Registerer: a.opt.Registry}
	if a.opt.Migration != nil {
		cfg.Check, cfg.Translate, cfg.Exchange = a.opt.Migration, a.opt.Migration, a.opt.Migration
	} else if t, ok := a.opt.HSM.(command.LMKTranslator); ok {
		cfg.Translate = t
	}
	return cfg
}

// rewrapRoutes are the moves of keys between LMK domains: everybody admitted may look, operators alone may order.
func (a *App) rewrapRoutes(r chi.Router, once func(http.Handler) http.Handler) {
	look, order := r.With(a.admitOperators(false)), r.With(a.admitOperators(true), once)
	look.Method(http.MethodGet, "/v1/rewraps", httpapi.HandlerFunc(a.listMoves))
	look.Method(http.MethodGet, "/v1/rewraps/{job}", httpapi.HandlerFunc(a.getMove))
	look.Method(http.MethodGet, "/v1/rewraps/{job}/report", httpapi.HandlerFunc(a.getReport))
	order.Method(http.MethodPost, "/v1/rewraps", httpapi.HandlerFunc(a.postMove))
	order.Method(http.MethodPost, "/v1/rewraps/{job}/keys", httpapi.HandlerFunc(a.postConfiguredKey))
	order.Method(http.MethodPost, "/v1/rewraps/{job}/resume", orderTo(a, func(ctx context.Context, id int64, body resumeBody, who string) (rewrap.Job, error) {
		return a.moves.Resume(ctx, id, body.Rate, who)
	}))
	order.Method(http.MethodPost, "/v1/rewraps/{job}/switch", orderTo(a, a.moves.Switch))
	for name, do := range map[string]func(context.Context, int64, string) (rewrap.Job, error){
		"pause": a.moves.Pause, "back": a.moves.Back, "retire": a.moves.Retire, "cancel": a.moves.Cancel,
	} {
		order.Method(http.MethodPost, "/v1/rewraps/{job}/"+name, orderTo(a, func(ctx context.Context, id int64, _ struct{}, who string) (rewrap.Job, error) {
			return do(ctx, id, who)
		}))
	}
}

// admitOperators lets operators in, and for looking the usual clients too.
func (a *App) admitOperators(orders bool) func(http.Handler) http.Handler {
	operators, clients := a.opt.Config.Rewrap.Operators, a.opt.Config.Clients
	return func(next http.Handler) http.Handler {
		return httpapi.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			name := callerOf(r).name
			if !slices.Contains(operators, name) && (orders || len(clients) > 0 && !slices.Contains(clients, name)) {
				return &httpapi.Error{
					Status: http.StatusForbidden, Detail: "the name in the client certificate may not move keys between LMK domains",
					NextStep: "use the certificate of an operator, or have the name added to rewrap.operators in the key service's configuration",
				}
			}
			next.ServeHTTP(w, r)
			return nil
		})
	}
}

// resumeBody is what an order to go on may carry.
type resumeBody struct {
	Rate int `json:"rate,omitempty"`
}

// orderTo is a handler of one order to one job. It answers with the job as it is then: the work goes on in the background. What the order
// does not take is refused: who sends a share with back must not believe that a share came back.
func orderTo[T any](a *App, do func(ctx context.Context, id int64, body T, who string) (rewrap.Job, error)) http.Handler {
	return httpapi.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		id, err := moveID(r)
		if err != nil {
			return err
		}
		var body T
		if err := httpapi.DecodeJSON(w, r, &body); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(r.Context(), flowTimeout)
		defer cancel()
		j, err := do(ctx, id, body, actorOf(r))
		if err := a.result("rewrap", err); err != nil {
			return err
		}
		httpapi.WriteJSON(w, r, http.StatusOK, j)
		return nil
	})
}

// actorOf names who acts, for job and audit: the certificate's owner, and the person that he names, if any.
func actorOf(r *http.Request) string {
	c := callerOf(r)
	if c.operator == "" || c.operator == c.name {
		return c.name
	}
	return c.name + " for " + c.operator
}

func moveID(r *http.Request) (int64, error) {
	id, err := strconv.ParseInt(chi.URLParam(r, "job"), 10, 64)
	if err != nil || id < 1 {
		return 0, &httpapi.Error{Status: http.StatusBadRequest, Detail: "the number of the job must be a number from 1", NextStep: "look at GET /v1/rewraps"}
	}
	return id, nil
}

func (a *App) listMoves(w http.ResponseWriter, r *http.Request) error {
	list, err := a.moves.Jobs(r.Context())
	if err != nil {
		return problem(err)
	}
	httpapi.WriteJSON(w, r, http.StatusOK, map[string]any{"jobs": append([]rewrap.Job{}, list...)})
	return nil
}

func (a *App) getMove(w http.ResponseWriter, r *http.Request) error {
	id, err := moveID(r)
	if err != nil {
		return err
	}
	st, err := a.moves.Status(r.Context(), id)
	if err != nil {
		return problem(err)
	}
	httpapi.WriteJSON(w, r, http.StatusOK, st)
	return nil
}

func (a *App) getReport(w http.ResponseWriter, r *http.Request) error {
	id, err := moveID(r)
	if err != nil {
		return err
	}
	var numbers [2]int64 // after, limit
	for i, name := range []string{"after", "limit"} {
		if text := r.URL.Query().Get(name); text != "" {
			if numbers[i], err = strconv.ParseInt(text, 10, 32); err != nil || numbers[i] < 0 {
				return &httpapi.Error{Status: http.StatusBadRequest, Detail: name + " must be a number from 0", NextStep: "leave it out for the first page"}
			}
		}
	}
	page, err := a.moves.Report(r.Context(), id, numbers[0], int(numbers[1]))
	if err != nil {
		return problem(err)
	}
	httpapi.WriteJSON(w, r, http.StatusOK, page)
	return nil
}

func (a *App) postMove(w http.ResponseWriter, r *http.Request) error {
	var plan rewrap.Plan
	if err := httpapi.DecodeJSON(w, r, &plan); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), flowTimeout)
	defer cancel()
	j, err := a.moves.Begin(ctx, plan, actorOf(r))
	if err := a.result("rewrap", err); err != nil {
		return err
	}
	httpapi.WriteJSON(w, r, http.StatusCreated, j)
	return nil
}

// configuredKey is a key of a configuration, on its way to another domain. It is the one place at which the key service hands out a
// cryptogram: it stands in posp's configuration, and is worth nothing outside the HSM.
type configuredKey struct {
	Usage      keys.Usage     `json:"usage"`
	Algorithm  keys.Algorithm `json:"algorithm"`
	Version    int            `json:"version"`
	Domain     string         `json:"domain,omitempty"`
	Cryptogram string         `json:"cryptogram"`
	KCV        keys.KCV       `json:"kcv,omitempty"`
}

func (a *App) postConfiguredKey(w http.ResponseWriter, r *http.Request) error {
	id, err := moveID(r)
	if err != nil {
		return err
	}
	var in configuredKey
	if err := httpapi.DecodeJSON(w, r, &in); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), flowTimeout)
	defer cancel()
	k, err := a.moves.Convert(ctx, id, keys.Wrapped{
		Usage: in.Usage, Algorithm: in.Algorithm, Version: in.Version, Domain: in.Domain, Cryptogram: in.Cryptogram, KCV: in.KCV,
	}, actorOf(r))
	if err := a.result("rewrap", err); err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	httpapi.WriteJSON(w, r, http.StatusOK, configuredKey{Usage: k.Usage, Algorithm: k.Algorithm, Version: k.Version, Domain: k.Domain, Cryptogram: k.Cryptogram, KCV: k.KCV})
	return nil
}

// moveProblem says to the client what a fault of moving keys means; nil when it is none of these.
func moveProblem(err error) *httpapi.Error {
	if r, ok := errors.AsType[*rewrap.Refusal](err); ok {
		return &httpapi.Error{Status: http.StatusConflict, Detail: r.Why, NextStep: r.Next, Cause: err}
	}
	switch {
	case errors.Is(err, rewrap.ErrNotFound):
		return &httpapi.Error{Status: http.StatusNotFound, Detail: "there is no job with this number", NextStep: "look at GET /v1/rewraps", Cause: err}
	case errors.Is(err, rewrap.ErrAway):
		return &httpapi.Error{
			Status: http.StatusServiceUnavailable, Detail: fmt.Sprintf("the HSM could not be asked: %v", err),
			NextStep: "see that a device of each of the two LMK domains works, then send the same request again", Cause: err,
		}
	}
	return nil
}
