// Package relay passes card-issuing requests on to the key service (P1): posp adds nothing to them and takes nothing out, and
// holds no right of its own to derive or export a key. The request carries an order that others signed.
package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	"github.com/keyward/keyward/internal/httpapi"
)

const (
	// answerTimeout bounds one relayed request: a derivation is a handful of HSM commands and one commit.
	answerTimeout = 15 * time.Second
	// maxIdle bounds kept connections to the key service.
	maxIdle = 8
)

// New makes the relay to the key service at target, over mutual TLS with the given PEM files.
func New(target, cert, key, ca string, log *slog.Logger) (http.Handler, error) {
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("key_service.url %q: want https://host:port", target)
	}
	tlsConfig, err := httpapi.ClientTLS(cert, key, ca)
	if err != nil {
		return nil, fmt.Errorf("key_service.tls: %w", err)
	}
	return newProxy(u, tlsConfig, log), nil
}

func newProxy(u *url.URL, tlsConfig *tls.Config, log *slog.Logger) http.Handler {
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(u)
			r.SetXForwarded()
		},
		Transport: &http.Transport{
			TLSClientConfig: tlsConfig, MaxIdleConns: maxIdle, MaxIdleConnsPerHost: maxIdle, ForceAttemptHTTP2: true,
			ResponseHeaderTimeout: answerTimeout,
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if errors.Is(err, context.Canceled) {
				return
			}
			httpapi.WriteError(w, r, &httpapi.Error{
				Status: http.StatusBadGateway, Detail: "the key service cannot be reached",
				NextStep: "check that \"posp keys serve\" runs and that key_service in posp's configuration is right", Cause: err,
			})
		},
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
		defer cancel()
		r.Body = http.MaxBytesReader(w, r.Body, httpapi.MaxBody)
		proxy.ServeHTTP(w, r.WithContext(ctx))
	})
}
