// Package simreader reaches the virtual PSAM cards of the simulators over their control API, as if it were a card reader with a tray
// of blank cards. A production profile refuses it.
package simreader

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/keyward/keyward/internal/issuer"
)

const (
	// timeout bounds one command: a card answers in milliseconds, a slow machine in seconds.
	timeout = 10 * time.Second
	// maxAnswer bounds an answer: 256 bytes of data and the status word as hex in JSON are far below.
	maxAnswer = 64 << 10
	// maxIdle keeps connections for the runs that work at once.
	maxIdle = 8
)

// Reader is the simulators' tray.
type Reader struct {
	url  string
	http *http.Client
}

var _ issuer.Reader = (*Reader)(nil)

// New makes a reader for the control API at target, for example http://127.0.0.1:8090.
func New(target string) (*Reader, error) {
	u, err := url.Parse(target)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("simulated reader: %q is not an address such as http://127.0.0.1:8090", target)
	}
	return &Reader{
		url:  strings.TrimRight(target, "/"),
		http: &http.Client{Timeout: timeout, Transport: &http.Transport{MaxIdleConns: maxIdle, MaxIdleConnsPerHost: maxIdle}},
	}, nil
}

// Connect implements issuer.Reader. A card that the tray does not hold is put in blank.
func (r *Reader) Connect(ctx context.Context, psamNo string) (issuer.Card, error) {
	if err := r.post(ctx, "/v1/cards", map[string]string{"psam_no": psamNo}, nil); err != nil {
		return nil, fmt.Errorf("put the card into the reader: %w", err)
	}
	return &card{reader: r, path: "/v1/cards/" + url.PathEscape(psamNo) + "/apdu"}, nil
}

// Close drops idle connections.
func (r *Reader) Close() { r.http.CloseIdleConnections() }

// card is one card of the tray.
type card struct {
	reader *Reader
	path   string
}

// Transmit implements issuer.Card.
func (c *card) Transmit(ctx context.Context, apdu []byte) ([]byte, error) {
	var out struct {
		Response string `json:"response"`
	}
	if err := c.reader.post(ctx, c.path, map[string]string{"apdu": strings.ToUpper(hex.EncodeToString(apdu))}, &out); err != nil {
		return nil, err
	}
	answer, err := hex.DecodeString(out.Response)
	if err != nil {
		return nil, errors.New("the simulators answered something that is not hex")
	}
	return answer, nil
}

// Close implements issuer.Card: a card of the tray stays where it is.
func (c *card) Close() error { return nil }

// post sends a JSON document and decodes the answer into out, when given.
func (r *Reader) post(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := r.http.Do(req)
	if err != nil {
		return fmt.Errorf("the simulators cannot be reached; check that \"keyward sim\" runs: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the simulators' answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("the simulators answered %s", resp.Status)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return errors.New("the simulators answered something that is not JSON")
	}
	return nil
}
