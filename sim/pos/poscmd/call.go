package poscmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/keyward/keyward/sim/pos"
)

const (
	// callTimeout is a little more than the control API gives a command.
	callTimeout = 310 * time.Second
	// maxAnswer bounds what is read from the control API: a result with two dumps is some kilobytes.
	maxAnswer = 1 << 20
)

// run calls the control API, prints the result and turns the outcome into an error with an exit code.
func (o *options) run(ctx context.Context, out io.Writer, command string, sale *pos.Sale) error {
	if o.output != "table" && o.output != "json" {
		return fmt.Errorf("--output is %q, not table or json", o.output)
	}
	result, err := o.call(ctx, command, sale)
	if err != nil {
		return err
	}
	if o.output == "json" {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(result)
	} else {
		err = printTable(out, result)
	}
	if err != nil {
		return fmt.Errorf("print result: %w", err)
	}
	switch result.Outcome {
	case pos.OutcomeApproved:
		return nil
	case pos.OutcomeDeclined:
		return &exitError{code: exitDeclined}
	default:
		return &exitError{code: exitNotRun}
	}
}

func (o *options) call(ctx context.Context, command string, sale *pos.Sale) (pos.Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errors.New("the control API did not answer in time"))
	defer cancel()
	address, err := url.JoinPath(o.control, "v1", "terminals", url.PathEscape(o.terminal), command)
	if err != nil {
		return pos.Result{}, fmt.Errorf("--control %q is not an address: %w", o.control, err)
	}
	if o.tls {
		address += "?tls=true"
	}
	body := []byte(nil)
	if sale != nil {
		if body, err = json.Marshal(sale); err != nil {
			return pos.Result{}, fmt.Errorf("encode request: %w", err)
		}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return pos.Result{}, fmt.Errorf("--control %q is not an address: %w", o.control, err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return pos.Result{}, fmt.Errorf("the simulators cannot be reached at %s: %w; is `make dev` running?", o.control, err)
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return pos.Result{}, fmt.Errorf("read the answer of the simulators: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return pos.Result{}, refusal(o.control, response.StatusCode, raw)
	}
	var result pos.Result
	if err := json.Unmarshal(raw, &result); err != nil {
		return pos.Result{}, fmt.Errorf("%s does not answer as the simulators do: %w; is another program on this port?", o.control, err)
	}
	return result, nil
}

// refusal is what the control API says when it does not run a command.
func refusal(control string, code int, raw []byte) error {
	var body struct {
		Error string `json:"error"`
	}
	if err := json.Unmarshal(raw, &body); err != nil || body.Error == "" {
		return fmt.Errorf("the control API answers %d; is another program on this port?", code)
	}
	if code == http.StatusNotFound {
		return fmt.Errorf("%s; `curl %s/v1/terminals` lists the terminals", body.Error, control)
	}
	return errors.New(body.Error)
}
