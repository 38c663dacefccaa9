package hsmops

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/internal/httpapi"
)

// operatorHeader names the operator behind a relay.
const operatorHeader = "X-Operator"

// maxName bounds an operator's name in bytes, as posv does.
const maxName = 128

// guard says who may change things, and in whose name (row C13).
type guard struct {
	operators, relays, readers []string
	log                        *slog.Logger
}

type authorKey struct{}

// authorOf is who made a request that passed the guard.
func authorOf(ctx context.Context) string {
	name, _ := ctx.Value(authorKey{}).(string)
	return name
}

// ActOf is an act in the name of the author of a request that passed the guard.
func ActOf(r *http.Request, reason string, force bool) member.Act {
	return member.Act{By: authorOf(r.Context()), Reason: reason, Force: force}
}

// changes lets only operators through. TLS has verified the certificate; a header proves nothing but what a relay says.
func (g guard) changes(next http.Handler) http.Handler {
	return httpapi.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		author, err := g.author(r)
		if err != nil {
			g.log.WarnContext(r.Context(), "HSM operation refused: not an operator", "remote", r.RemoteAddr, "certificate", certificateName(r), "error", err)
			return err
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), authorKey{}, author)))
		return nil
	})
}

// reads lets everybody through where no readers are named.
func (g guard) reads(next http.Handler) http.Handler {
	if len(g.readers) == 0 {
		return next
	}
	allowed := slices.Concat(g.readers, g.operators, g.relays)
	return httpapi.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		if name := certificateName(r); !slices.Contains(allowed, name) {
			return forbidden(fmt.Sprintf("the certificate of %q may not look here", name), "use the certificate of an operator of HSMs")
		}
		next.ServeHTTP(w, r)
		return nil
	})
}

func (g guard) author(r *http.Request) (string, error) {
	const ask = "ask for your name to be added to hsm_operation.operators of this service"
	name := certificateName(r)
	switch {
	case r.TLS == nil || len(r.TLS.VerifiedChains) == 0:
		return "", forbidden("changes of HSMs are not taken here: this listener proves nobody's name",
			"use the listener of hsm_operation (https, in dev mode 127.0.0.1:8084) with the certificate of an operator")
	case slices.Contains(g.relays, name):
		operator := r.Header.Get(operatorHeader)
		if !slices.Contains(g.operators, operator) || !goodName(operator) {
			return "", forbidden(fmt.Sprintf("%s passes a change on for somebody who is not an operator of HSMs", name), ask)
		}
		return operator + " via " + name, nil
	case slices.Contains(g.operators, name) && goodName(name):
		return name, nil
	case name == "":
		return "", forbidden("the client certificate has no common name", "use the certificate of an operator of HSMs")
	}
	return "", forbidden(fmt.Sprintf("the certificate of %q is not that of an operator of HSMs", name), "use the certificate of an operator, or "+ask)
}

func forbidden(detail, next string) error {
	return &httpapi.Error{Status: http.StatusForbidden, Detail: detail, NextStep: next}
}

// certificateName is the common name that TLS has verified, "" for none.
func certificateName(r *http.Request) string {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return ""
	}
	return r.TLS.VerifiedChains[0][0].Subject.CommonName
}

func goodName(name string) bool {
	return name != "" && len(name) <= maxName && utf8.ValidString(name) && strings.TrimSpace(name) == name &&
		!strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) })
}
