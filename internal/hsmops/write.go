package hsmops

import (
	"context"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-chi/chi/v5"

	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/internal/httpapi"
)

// maxReason bounds the words of an operator, which go into history and database.
const maxReason = 500

// Order is what every change carries beside its own members.
type Order struct {
	Reason string `json:"reason,omitempty"` // why, for the history
	Force  bool   `json:"force,omitempty"`  // overrules a refusal for safety
}

// Act is the act in the name of the request's author.
func (o Order) act(r *http.Request) (member.Act, error) {
	if len(o.Reason) > maxReason {
		return member.Act{}, member.Refuse(member.Invalid, "make it shorter", "the reason is longer than %d bytes", maxReason)
	}
	if !utf8.ValidString(o.Reason) || strings.ContainsFunc(o.Reason, func(r rune) bool { return !unicode.IsGraphic(r) }) { // it would forge lines of the history on somebody's screen
		return member.Act{}, member.Refuse(member.Invalid, "write it as one line of text", "the reason has characters that are not text")
	}
	return ActOf(r, o.Reason, o.Force), nil
}

// The bodies of the changes.
type (
	// AddOrder adds a member.
	AddOrder struct {
		Order
		Spec member.Spec `json:"spec"`
	}
	// StateOrder sets the state of a member: working, standby, draining or fenced.
	StateOrder struct {
		Order
		State member.State `json:"state"`
	}
	// ChangeOrder modifies a member; what is left out stays.
	ChangeOrder struct {
		Order
		member.Change
	}
	// FaultOrder simulates a failure on our side of the line, for a time.
	FaultOrder struct {
		Order
		Kind  member.FaultKind `json:"kind"`
		Delay member.Duration  `json:"delay,omitempty"` // of kind slow
		For   member.Duration  `json:"for"`             // it ends by itself after this time
	}
	// ClearOrder empties a queue.
	ClearOrder struct {
		Order
		Domain string           `json:"domain,omitempty"` // may be empty where there is one only
		Kind   member.QueueKind `json:"kind"`
	}
	// SwitchOrder switches monitoring or the journal.
	SwitchOrder struct {
		Order
		On bool `json:"on"`
	}
	// SaveOrder makes the present members permanent.
	SaveOrder struct {
		Order
		Base *int64 `json:"base,omitempty"` // version that the operator has seen; left out: the one in force
	}
)

// Cleared is the answer to a cleared queue.
type Cleared struct {
	Cleared int `json:"cleared"`
}

// read decodes a body that has an Order in it and gives the act.
func read[T any](w http.ResponseWriter, r *http.Request, into *T, order *Order) (member.Act, error) {
	if r.ContentLength != 0 || r.Header.Get("Content-Type") != "" {
		if err := httpapi.DecodeJSON(w, r, into); err != nil {
			return member.Act{}, err
		}
	}
	return order.act(r)
}

func (h *Handler) members(r Routes) {
	c := h.opt.Cluster
	r.Write("/members", h.add)
	r.Write("/members/{name}/remove", h.onMember(func(ctx context.Context, act member.Act, name string) error { return c.Remove(ctx, act, name) }))
	r.Write("/members/{name}/state", func(w http.ResponseWriter, req *http.Request) error {
		var in StateOrder
		act, err := read(w, req, &in, &in.Order)
		if err != nil {
			return err
		}
		name := chi.URLParam(req, "name")
		if err := c.SetState(req.Context(), act, name, in.State); err != nil {
			return err
		}
		return h.answerMember(w, req, http.StatusOK, name)
	})
	r.Write("/members/{name}/change", func(w http.ResponseWriter, req *http.Request) error {
		var in ChangeOrder
		act, err := read(w, req, &in, &in.Order)
		if err != nil {
			return err
		}
		if in.Change == (member.Change{}) {
			return member.Refuse(member.Invalid, "give priority, weight, rated or probe", "the order changes nothing")
		}
		name := chi.URLParam(req, "name")
		if err := c.Modify(act, name, in.Change); err != nil {
			return err
		}
		return h.answerMember(w, req, http.StatusOK, name)
	})
	r.Write("/members/{name}/probe", func(w http.ResponseWriter, req *http.Request) error {
		var in Order
		if _, err := read(w, req, &in, &in); err != nil {
			return err
		}
		result, err := c.Probe(req.Context(), chi.URLParam(req, "name"))
		if err != nil {
			return err
		}
		httpapi.WriteJSON(w, req, http.StatusOK, result)
		return nil
	})
	r.Write("/members/{name}/fault", func(w http.ResponseWriter, req *http.Request) error {
		var in FaultOrder
		act, err := read(w, req, &in, &in.Order)
		if err != nil {
			return err
		}
		if in.For <= 0 {
			return member.Refuse(member.Invalid, "give for, for example 30s", "a simulated fault needs an end")
		}
		name := chi.URLParam(req, "name")
		if err := c.Inject(act, name, member.Fault{Kind: in.Kind, Delay: in.Delay, Until: h.opt.Now().Add(time.Duration(in.For))}); err != nil {
			return err
		}
		return h.answerMember(w, req, http.StatusOK, name)
	})
	r.Write("/members/{name}/fault/clear", h.onMember(func(_ context.Context, act member.Act, name string) error { return c.Clear(act, name) }))
}

// add adds a member, complete as one of the configuration would be, and refuses what the profile forbids.
func (h *Handler) add(w http.ResponseWriter, r *http.Request) error {
	var in AddOrder
	act, err := read(w, r, &in, &in.Order)
	if err != nil {
		return err
	}
	spec := h.opt.Complete(in.Spec)
	if err := h.opt.Check(spec); err != nil {
		return member.Refuse(member.Invalid, "correct the member and add it again", "%s", err)
	}
	if err := h.opt.Cluster.Add(r.Context(), act, spec); err != nil {
		return err
	}
	return h.answerMember(w, r, http.StatusCreated, spec.Name)
}

// onMember makes a handler of an operation that needs a name only. A member that is gone afterwards answers 204.
func (h *Handler) onMember(do func(ctx context.Context, act member.Act, name string) error) httpapi.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		var in Order
		act, err := read(w, r, &in, &in)
		if err != nil {
			return err
		}
		name := chi.URLParam(r, "name")
		if err := do(r.Context(), act, name); err != nil {
			return err
		}
		err = h.answerMember(w, r, http.StatusOK, name)
		if member.IsRefusal(err, member.NotFound) {
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
		return err
	}
}

func (h *Handler) engine(r Routes) {
	c := h.opt.Cluster
	r.Write("/engine/start", h.onEngine(func(_ context.Context, act member.Act) error { return c.StartEngine(act) }))
	r.Write("/engine/stop", h.onEngine(c.StopEngine))
	r.Write("/monitoring", h.switched(c.SetMonitoring))
	r.Write("/journal", h.switched(c.SetJournal))
	r.Write("/queues/clear", func(w http.ResponseWriter, req *http.Request) error {
		var in ClearOrder
		act, err := read(w, req, &in, &in.Order)
		if err != nil {
			return err
		}
		if in.Domain == "" {
			queues := c.Queues()
			if len(queues) != 1 {
				return member.Refuse(member.Invalid, "name the domain whose queue is meant (--domain)", "the cluster has %d LMK domains", len(queues))
			}
			in.Domain = queues[0].Domain
		}
		n, err := c.ClearQueue(act, in.Domain, in.Kind)
		if err != nil {
			return err
		}
		httpapi.WriteJSON(w, req, http.StatusOK, Cleared{n})
		return nil
	})
	r.Write("/save", h.save)
}

func (h *Handler) onEngine(do func(ctx context.Context, act member.Act) error) httpapi.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		var in Order
		act, err := read(w, r, &in, &in)
		if err != nil {
			return err
		}
		if err := do(r.Context(), act); err != nil {
			return err
		}
		httpapi.WriteJSON(w, r, http.StatusOK, h.opt.Cluster.Engine())
		return nil
	}
}

func (h *Handler) switched(do func(act member.Act, on bool) error) httpapi.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		var in SwitchOrder
		act, err := read(w, r, &in, &in.Order)
		if err != nil {
			return err
		}
		if err := do(act, in.On); err != nil {
			return err
		}
		httpapi.WriteJSON(w, r, http.StatusOK, h.opt.Cluster.Engine())
		return nil
	}
}

// save makes the present members permanent, for all instances.
func (h *Handler) save(w http.ResponseWriter, r *http.Request) error {
	var in SaveOrder
	act, err := read(w, r, &in, &in.Order)
	if err != nil {
		return err
	}
	if h.opt.List == nil {
		return notShared()
	}
	base := int64(-1)
	if in.Base != nil {
		if base = *in.Base; base < 0 {
			return member.Refuse(member.Invalid, "leave base out, or give the version that you have seen", "base is below zero")
		}
	}
	v, err := h.opt.List.Save(r.Context(), act, base)
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, r, http.StatusCreated, v)
	return nil
}
