package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/user"
	"strings"
	"time"
)

const (
	// callTimeout is longer than the longest run of one card, so that the service's own answer arrives.
	callTimeout = 95 * time.Second
	// maxAnswer bounds an answer: 500 runs are a few hundred KiB.
	maxAnswer = 8 << 20
)

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
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(o.api, "/")+path, body)
	if err != nil {
		return fmt.Errorf("--api: %w", err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	if u, err := user.Current(); err == nil {
		req.Header.Set("X-Operator", u.Username)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnreachable, err)
	}
	defer func() { _ = resp.Body.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%w: %w", errUnreachable, err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return refusal(resp.Status, text)
	}
	if err := json.Unmarshal(text, out); err != nil {
		return errors.New("the answer cannot be read; is --api the issuer's address?")
	}
	return nil
}

// refusal puts a problem document (RFC 9457) into words.
func refusal(status string, text []byte) error {
	var p struct {
		Detail   string `json:"detail"`
		NextStep string `json:"next_step"`
	}
	if json.Unmarshal(text, &p) != nil || p.Detail == "" {
		return fmt.Errorf("the service answered %s; is --api the issuer's address?", status)
	}
	if p.NextStep == "" {
		return errors.New(p.Detail)
	}
	return fmt.Errorf("%s\n  next step: %s", p.Detail, p.NextStep)
}
