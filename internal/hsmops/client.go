package hsmops

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/keyward/keyward/internal/httpapi"
)

// ClientConfig says which service is operated, and with which certificate. The three files belong together; without them the connection
// is plain and only reads.
type ClientConfig struct {
	URL  string `yaml:"url"`  // https://host:port of hsm_operation, or of the key service
	Cert string `yaml:"cert"` // PEM
	Key  string `yaml:"key"`  // PEM
	CA   string `yaml:"ca"`   // PEM, the authority of the server
}

// Client asks the interface of one service. It is safe for concurrent use.
type Client struct {
	base string
	http *http.Client
}

// NewClient checks the configuration and reads the files; nothing is connected yet. Time-outs are those of the calls' ctx.
func NewClient(cfg ClientConfig) (*Client, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("the address of the service must look like https://127.0.0.1:8084")
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 2}
	switch given := cfg.Cert != "" || cfg.Key != "" || cfg.CA != ""; {
	case given && (cfg.Cert == "" || cfg.Key == "" || cfg.CA == ""):
		return nil, errors.New("cert, key and ca belong together")
	case given && u.Scheme == "http":
		return nil, errors.New("the address begins with http://, but a certificate is given: write https://")
	case given:
		if transport.TLSClientConfig, err = httpapi.ClientTLS(cfg.Cert, cfg.Key, cfg.CA); err != nil {
			return nil, err
		}
	case u.Scheme == "https":
		return nil, errors.New("an address with https:// needs cert, key and ca")
	}
	return &Client{base: strings.TrimSuffix(cfg.URL, "/"), http: &http.Client{Transport: transport}}, nil
}

// Close lets idle connections go.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// URL is the address of the service.
func (c *Client) URL() string { return c.base }

// Get reads what is at a path below Prefix into out. Errors are those of httpapi.Call.
func (c *Client) Get(ctx context.Context, path string, query url.Values, out any) error {
	u := c.base + Prefix + path
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	return httpapi.Call{Method: http.MethodGet, URL: u}.Do(ctx, c.http, out)
}

// Do orders a change at a path below Prefix and reads the answer into out, which may be nil and stays as it is when there is nothing to
// tell. Every call is an operation of its own.
func (c *Client) Do(ctx context.Context, path string, in, out any) error {
	return httpapi.Call{Method: http.MethodPost, URL: c.base + Prefix + path, IdempotencyKey: rand.Text(), Body: in}.Do(ctx, c.http, out)
}

// Relay sends a request on as it is, for posv: method, a path below Prefix with its query, body and Idempotency-Key. operator is who
// orders it, "" for reading. The caller closes the body of the response.
func (c *Client) Relay(ctx context.Context, method, path, query, operator, key string, body []byte) (*http.Response, error) {
	u, err := url.Parse(c.base)
	if err != nil {
		return nil, err
	}
	u.Path, u.RawQuery = Prefix+path, query
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	if operator != "" {
		req.Header.Set(operatorHeader, operator)
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", httpapi.ErrNoAnswer, err)
	}
	return resp, nil
}
