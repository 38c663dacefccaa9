package posv

import (
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/internal/registry"
)

// stateChange is the body of the calls that move a state.
type stateChange struct {
	State  string `json:"state"`
	Reason string `json:"reason"`
}

func (a *App) overview(w http.ResponseWriter, r *http.Request) error {
	o, err := a.devices.Overview(r.Context())
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, r, http.StatusOK, o)
	return nil
}

func (a *App) putMerchant(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Name  string `json:"name"`
		State string `json:"state"`
	}
	if err := httpapi.DecodeJSON(w, r, &body); err != nil {
		return err
	}
	m, created, err := a.devices.PutMerchant(r.Context(), actorOf(r.Context()).name, chi.URLParam(r, "merchant_id"), body.Name, body.State)
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, r, status(created), m)
	return nil
}

func (a *App) getMerchant(w http.ResponseWriter, r *http.Request) error {
	m, err := a.devices.Merchant(r.Context(), chi.URLParam(r, "merchant_id"))
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, r, http.StatusOK, m)
	return nil
}

func (a *App) listMerchants(w http.ResponseWriter, r *http.Request) error {
	p, err := pageOf(r)
	if err != nil {
		return err
	}
	items, err := a.devices.Merchants(r.Context(), p)
	if err != nil {
		return err
	}
	writeList(w, r, items, p.Limit, func(m registry.Merchant) string { return m.ID })
	return nil
}

func (a *App) putTerminal(w http.ResponseWriter, r *http.Request) error {
	var body registry.TerminalChange
	if err := httpapi.DecodeJSON(w, r, &body); err != nil {
		return err
	}
	t, created, err := a.devices.PutTerminal(r.Context(), actorOf(r.Context()).name, chi.URLParam(r, "terminal_id"), body)
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, r, status(created), t)
	return nil
}

func (a *App) getTerminal(w http.ResponseWriter, r *http.Request) error {
	v, err := a.devices.Terminal(r.Context(), chi.URLParam(r, "terminal_id"))
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, r, http.StatusOK, v)
	return nil
}

func (a *App) listTerminals(w http.ResponseWriter, r *http.Request) error {
	p, err := pageOf(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	items, err := a.devices.Terminals(r.Context(), registry.Filter{
		State: q.Get("state"), Merchant: q.Get("merchant"), Text: q.Get("text"), Keys: registry.KeyState(q.Get("keys")), Looping: q.Get("looping") == "true", Page: p,
	})
	if err != nil {
		return err
	}
	writeList(w, r, items, p.Limit, func(v registry.View) string { return v.ID })
	return nil
}

func (a *App) setTerminalState(w http.ResponseWriter, r *http.Request) error {
	var body stateChange
	if err := httpapi.DecodeJSON(w, r, &body); err != nil {
		return err
	}
	t, err := a.devices.SetTerminalState(r.Context(), actorOf(r.Context()).name, chi.URLParam(r, "terminal_id"), body.State, body.Reason)
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, r, http.StatusOK, t)
	return nil
}

func (a *App) bind(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		PSAM   string `json:"psam_no"`
		Reason string `json:"reason"`
	}
	if err := httpapi.DecodeJSON(w, r, &body); err != nil {
		return err
	}
	b, created, err := a.devices.Bind(r.Context(), actorOf(r.Context()).name, chi.URLParam(r, "terminal_id"), body.PSAM, body.Reason)
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, r, status(created), b)
	return nil
}

func (a *App) unbind(w http.ResponseWriter, r *http.Request) error {
	b, err := a.devices.Unbind(r.Context(), actorOf(r.Context()).name, chi.URLParam(r, "terminal_id"), r.URL.Query().Get("reason"))
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, r, http.StatusOK, b)
	return nil
}

// ofTerminal answers with something of a terminal that exists.
func ofTerminal[T any](a *App, w http.ResponseWriter, r *http.Request, read func(id string) ([]T, error)) error {
	id := chi.URLParam(r, "terminal_id")
	if _, err := a.devices.Terminal(r.Context(), id); err != nil {
		return err
	}
	items, err := read(id)
	if err != nil {
		return err
	}
	writeList(w, r, items, 0, nil)
	return nil
}

func (a *App) listBindings(w http.ResponseWriter, r *http.Request) error {
	return ofTerminal(a, w, r, func(id string) ([]registry.Binding, error) { return a.devices.Bindings(r.Context(), id) })
}

func (a *App) listTerminalEvents(w http.ResponseWriter, r *http.Request) error {
	return ofTerminal(a, w, r, func(id string) ([]registry.Event, error) { return a.devices.TerminalEvents(r.Context(), id) })
}

func (a *App) listSignOns(w http.ResponseWriter, r *http.Request) error {
	return ofTerminal(a, w, r, func(id string) ([]registry.SignOn, error) { return a.devices.SignOns(r.Context(), id) })
}

func (a *App) addCard(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		PSAM string `json:"psam_no"`
	}
	if err := httpapi.DecodeJSON(w, r, &body); err != nil {
		return err
	}
	c, created, err := a.devices.AddCard(r.Context(), actorOf(r.Context()).name, body.PSAM)
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, r, status(created), c)
	return nil
}

// cardDetail is a card with its history.
type cardDetail struct {
	registry.Card
	Events   []registry.Event   `json:"events"`
	Bindings []registry.Binding `json:"bindings"`
}

func (a *App) getCard(w http.ResponseWriter, r *http.Request) error {
	c, err := a.devices.Card(r.Context(), chi.URLParam(r, "psam_no"))
	if err != nil {
		return err
	}
	events, err := a.devices.CardEvents(r.Context(), c.PSAM)
	if err != nil {
		return err
	}
	bindings, err := a.devices.CardBindings(r.Context(), c.PSAM)
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, r, http.StatusOK, cardDetail{Card: c, Events: events, Bindings: bindings})
	return nil
}

func (a *App) listCards(w http.ResponseWriter, r *http.Request) error {
	p, err := pageOf(r)
	if err != nil {
		return err
	}
	items, err := a.devices.Cards(r.Context(), r.URL.Query().Get("state"), p)
	if err != nil {
		return err
	}
	writeList(w, r, items, p.Limit, func(c registry.Card) string { return c.PSAM })
	return nil
}

func (a *App) setCardState(w http.ResponseWriter, r *http.Request) error {
	var body stateChange
	if err := httpapi.DecodeJSON(w, r, &body); err != nil {
		return err
	}
	c, err := a.devices.SetCardState(r.Context(), actorOf(r.Context()).name, chi.URLParam(r, "psam_no"), body.State, body.Reason)
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, r, http.StatusOK, c)
	return nil
}
