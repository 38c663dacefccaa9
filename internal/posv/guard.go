package posv

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/internal/service"
)

const (
	// operatorHeader names the actor on a plain listener.
	operatorHeader = "X-Operator"
	// devOperator is who acts where nobody is named, outside production.
	devOperator = "dev"
	// maxOperator bounds a name in bytes; internal/order allows as much in a document.
	maxOperator = 128
)

// guard says who may change things, and in whose name.
type guard struct {
	production bool
	bearer     func(http.Handler) http.Handler // nil asks for no token
	origin     *http.CrossOriginProtection
	approvers  []string // empty: everybody
}

func newGuard(cfg Config) (guard, error) {
	g := guard{production: cfg.Profile == service.Production, origin: http.NewCrossOriginProtection(), approvers: cfg.Approvers}
	g.origin.SetDenyHandler(httpapi.HandlerFunc(func(http.ResponseWriter, *http.Request) error {
		return &httpapi.Error{Status: http.StatusForbidden, Detail: "a page of another site may change nothing here", NextStep: "send the request from a program, or from the console itself"}
	}))
	if cfg.TokenFile != "" {
		token, err := cfg.TokenFile.Read()
		if err != nil {
			return g, fmt.Errorf("token_file: %w", err)
		}
		g.bearer = httpapi.Bearer(token)
	}
	return g, nil
}

// actor is who acts: a person or a service.
type actor struct {
	name   string
	proven bool // by a client certificate; a header proves nothing
}

type actorKey struct{}

// actorOf is the actor of a request that passed changes.
func actorOf(ctx context.Context) actor {
	a, _ := ctx.Value(actorKey{}).(actor)
	return a
}

// changes lets only requests through that may change things. What only reads passes, but for that which reads guards:
// the console and the lists are for whoever reaches the listener.
func (g guard) changes(next http.Handler) http.Handler {
	named := httpapi.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		a, err := g.name(r)
		if err != nil {
			return err
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), actorKey{}, a)))
		return nil
	})
	var checked http.Handler = named
	if g.bearer != nil {
		checked = g.bearer(named)
	}
	return g.origin.Handler(checked)
}

// name takes the actor from the client's certificate, else from the header.
func (g guard) name(r *http.Request) (actor, error) {
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		a := actor{name: r.TLS.VerifiedChains[0][0].Subject.CommonName, proven: true}
		if !goodName(a.name) {
			return a, &httpapi.Error{Status: http.StatusForbidden, Detail: "the client certificate has no common name that could stand in the audit", NextStep: "use a certificate whose subject has a CN of 1 to 128 printable characters"}
		}
		return a, nil
	}
	a := actor{name: r.Header.Get(operatorHeader)}
	if a.name == "" && !g.production {
		a.name = devOperator
	}
	if !goodName(a.name) {
		return a, &httpapi.Error{
			Status: http.StatusBadRequest, Detail: "this change needs the name of who makes it",
			NextStep: "send the header " + operatorHeader + " with a name of 1 to 128 printable characters",
		}
	}
	return a, nil
}

func goodName(name string) bool {
	return name != "" && len(name) <= maxOperator && utf8.ValidString(name) && strings.TrimSpace(name) == name &&
		!strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) })
}

// reads asks for the token where one is configured. It stands before what is worth stealing: a signed order is a right to
// have card keys exported, and the operation of HSMs says where the devices are and which of them is out.
func (g guard) reads(next http.Handler) http.Handler {
	if g.bearer != nil {
		return g.bearer(next)
	}
	return next
}

// mayApprove refuses an approval of somebody who is not an approver, and one whose giver nothing proves: with a shared token and a
// header one person could be two.
func (g guard) mayApprove(a actor) error {
	if len(g.approvers) > 0 && !slices.Contains(g.approvers, a.name) {
		return &httpapi.Error{Status: http.StatusForbidden, Detail: "this name is not among those who may approve orders", NextStep: "ask one of the approvers, or have the name added to approvers in posv's configuration"}
	}
	if !g.production || a.proven {
		return nil
	}
	return &httpapi.Error{
		Status: http.StatusForbidden, Detail: "an approval needs a client certificate in production: a header proves nobody",
		NextStep: "give the listener tls and use the approver's own certificate",
	}
}
