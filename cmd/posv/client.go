package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/internal/service"
)

const (
	// callTimeout bounds one call; posv itself gives up after 15 s.
	callTimeout = 30 * time.Second
	// pageLimit is the length of the pages that lists are read in.
	pageLimit = 500
)

// client calls the API as the flags say.
type client struct {
	api, operator, token, cert, key, ca, output string
}

// flags adds the flags that all commands of the API share.
func (c *client) flags(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVar(&c.api, "api", orEnv("KEYWARD_POSV_API", "http://127.0.0.1:8080"), "address of posv (KEYWARD_POSV_API)")
	f.StringVar(&c.operator, "operator", os.Getenv("KEYWARD_OPERATOR"), "who makes the change, where no client certificate tells (KEYWARD_OPERATOR)")
	f.StringVar(&c.token, "token-file", "", "file with the token of the service")
	f.StringVar(&c.cert, "cert", "", "client certificate (PEM)")
	f.StringVar(&c.key, "key", "", "key of the client certificate (PEM)")
	f.StringVar(&c.ca, "ca", "", "authority of the server's certificate (PEM)")
	f.StringVar(&c.output, "output", "table", "table or json")
}

func orEnv(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// call sends in (nil: no body) and decodes the answer into out (nil: none).
func (c *client) call(ctx context.Context, method, path string, in, out any) error {
	if c.output != "table" && c.output != "json" {
		return &usageError{"--output must be table or json"}
	}
	call := httpapi.Call{Method: method, URL: strings.TrimSuffix(c.api, "/") + path, Operator: c.operator, Body: in}
	if u, err := url.Parse(c.api); err != nil || u.Host == "" {
		return &usageError{"--api must be an address like http://127.0.0.1:8080"}
	}
	if c.token != "" {
		var err error
		if call.Token, err = service.SecretFile(c.token).Read(); err != nil {
			return fmt.Errorf("--token-file: %w", err)
		}
		defer call.Token.Wipe()
	}
	transport, err := c.transport()
	if err != nil {
		return err
	}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err = call.Do(ctx, &http.Client{Transport: transport}, out)
	var refused *httpapi.Refusal
	switch {
	case errors.As(err, &refused):
		return refusal(refused)
	case errors.Is(err, httpapi.ErrNoAnswer):
		return fmt.Errorf("posv does not answer at %s; start it with posv serve, or name another --api: %w", c.api, err)
	case errors.Is(err, httpapi.ErrNotOurs):
		return fmt.Errorf("the answer of %s is not posv's: %w", c.api, err)
	}
	return err
}

func (c *client) transport() (*http.Transport, error) {
	t := &http.Transport{}
	if c.cert == "" && c.key == "" && c.ca == "" {
		return t, nil
	}
	if c.cert == "" || c.key == "" || c.ca == "" {
		return nil, &usageError{"--cert, --key and --ca belong together"}
	}
	var err error
	var config *tls.Config
	if config, err = httpapi.ClientTLS(c.cert, c.key, c.ca); err != nil {
		return nil, err
	}
	t.TLSClientConfig = config
	return t, nil
}

// refusal makes a sentence of a problem document.
func refusal(r *httpapi.Refusal) error {
	switch {
	case r.Detail == "":
		return fmt.Errorf("posv answers %d", r.Status)
	case r.NextStep == "":
		return fmt.Errorf("%s (%d)", r.Detail, r.Status)
	}
	return fmt.Errorf("%s (%d); %s", r.Detail, r.Status, r.NextStep)
}

// all reads every page of a list; query holds the filters.
func all[T any](ctx context.Context, c *client, path string, query url.Values) ([]T, error) {
	if query == nil {
		query = url.Values{}
	}
	items := []T{}
	for {
		query.Set("limit", fmt.Sprint(pageLimit))
		var page struct {
			Items []T    `json:"items"`
			Next  string `json:"next"`
		}
		if err := c.call(ctx, http.MethodGet, path+"?"+query.Encode(), nil, &page); err != nil {
			return nil, err
		}
		items = append(items, page.Items...)
		if page.Next == "" {
			return items, nil
		}
		query.Set("after", page.Next)
	}
}

// show prints a value as JSON, or rows as a table with a heading.
func (c *client) show(w io.Writer, value any, heading []string, rows [][]string) error {
	if c.output == "json" {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(value)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{heading}, rows...) {
		if len(row) > 0 {
			_, _ = fmt.Fprintln(t, strings.Join(row, "\t")) // Flush reports
		}
	}
	return t.Flush()
}

// when prints a time, "-" for none.
func when(t *time.Time) string {
	if t == nil || t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
