package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/user"
	"strings"
	"time"

	"github.com/keyward/keyward/internal/httpapi"
)

// callTimeout is longer than the longest run of one card, so that the service's own answer arrives.
const callTimeout = 95 * time.Second

// errUnreachable says that no answer came.
var errUnreachable = errors.New("the issuer cannot be reached; check that \"issuer serve\" runs and that --api is right")

// options are the flags of all commands that call the service.
type options struct{ api, output string }

// call sends one request and decodes the answer into out. A refusal is an error with the service's own words.
func (o *options) call(ctx context.Context, method, path, key string, in, out any) error {
	if o.output != formatTable && o.output != formatJSON {
		return fmt.Errorf("--output %q: use table or json", o.output)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	call := httpapi.Call{Method: method, URL: strings.TrimRight(o.api, "/") + path, IdempotencyKey: key, Body: in}
	if u, err := user.Current(); err == nil {
		call.Operator = u.Username
	}
	err := call.Do(ctx, http.DefaultClient, out)
	var refused *httpapi.Refusal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		return refusal(refused)
	case errors.Is(err, httpapi.ErrNoAnswer):
		return fmt.Errorf("%w: %w", errUnreachable, err)
	case errors.Is(err, httpapi.ErrNotOurs):
		return errors.New("the answer cannot be read; is --api the issuer's address?")
	}
	return fmt.Errorf("--api: %w", err)
}

// refusal puts a problem document (RFC 9457) into words.
func refusal(r *httpapi.Refusal) error {
	switch {
	case r.Detail == "":
		return fmt.Errorf("the service answered %d %s; is --api the issuer's address?", r.Status, http.StatusText(r.Status))
	case r.NextStep == "":
		return errors.New(r.Detail)
	}
	return fmt.Errorf("%s\n  next step: %s", r.Detail, r.NextStep)
}
