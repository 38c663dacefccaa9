package httpapi_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/internal/httpapi/httpapitest"
)

const patience = 20 * time.Second

func start(t *testing.T, cfg httpapi.ServerConfig) *httpapi.Server {
	t.Helper()
	cfg.Name, cfg.Addr = "test API", "127.0.0.1:0"
	s, err := httpapi.NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = s.Stop(ctx) // a test that cares stops by itself
	})
	return s
}

func fetch(t *testing.T, c *tls.Config, url string) (string, error) {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: c}
	defer tr.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := (&http.Client{Transport: tr, Timeout: patience}).Do(r)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	return string(b), err
}

func TestMutualTLS(t *testing.T) {
	t.Parallel()
	serverCert, serverKey := httpapitest.Certificate(t, "server")
	clientCert, clientKey := httpapitest.Certificate(t, "client")
	strangerCert, strangerKey := httpapitest.Certificate(t, "stranger")
	st, err := httpapi.ServerTLS(serverCert, serverKey, clientCert)
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, httpapi.ServerConfig{TLS: st, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, tls.VersionName(r.TLS.Version))
	})})
	url := "https://" + s.Addr().String()
	good, err := httpapi.ClientTLS(clientCert, clientKey, serverCert)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := fetch(t, good, url); err != nil || got != "TLS 1.3" {
		t.Fatalf("%q, %v", got, err)
	}
	old := good.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	stranger, err := httpapi.ClientTLS(strangerCert, strangerKey, serverCert)
	if err != nil {
		t.Fatal(err)
	}
	wrongServer, err := httpapi.ClientTLS(clientCert, clientKey, strangerCert)
	if err != nil {
		t.Fatal(err)
	}
	nameless := good.Clone()
	nameless.Certificates = nil
	for name, c := range map[string]*tls.Config{"TLS 1.2": old, "a stranger": stranger, "a server that is not trusted": wrongServer, "no certificate": nameless} {
		if _, err := fetch(t, c, url); err == nil {
			t.Errorf("%s was let through", name)
		}
	}
	for _, bad := range [][3]string{{"gone", serverKey, clientCert}, {serverCert, clientKey, clientCert}, {serverCert, serverKey, "gone"}, {serverCert, serverKey, serverKey}} {
		if _, err := httpapi.ServerTLS(bad[0], bad[1], bad[2]); err == nil || strings.Contains(err.Error(), "BEGIN") {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

func TestServerStops(t *testing.T) {
	t.Parallel()
	running, release := make(chan struct{}), make(chan struct{})
	s := start(t, httpapi.ServerConfig{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(running)
		<-release
		_, _ = io.WriteString(w, "whole")
	})})
	type result struct {
		body string
		err  error
	}
	got := make(chan result, 1)
	go func() {
		b, err := fetch(t, nil, "http://"+s.Addr().String())
		got <- result{b, err}
	}()
	<-running
	short, cancel := context.WithCancel(context.Background())
	cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(t.Context()) }()
	close(release)
	if r := <-got; r.err != nil || r.body != "whole" {
		t.Fatalf("a request under way was cut: %v", r)
	}
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(short); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatalf("second stop: %v", err)
	}
	if err := s.Start(t.Context()); err == nil {
		t.Fatal("started after the stop")
	}
	never, err := httpapi.NewServer(httpapi.ServerConfig{Name: "n", Addr: "127.0.0.1:0", Handler: http.NotFoundHandler()})
	if err != nil {
		t.Fatal(err)
	}
	if err := never.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := never.Start(t.Context()); err == nil {
		t.Fatal("started after the stop")
	}
	if _, err := httpapi.NewServer(httpapi.ServerConfig{Name: "n"}); err == nil {
		t.Fatal("accepted without a handler")
	}
}

func TestServerTellsWhenServingEnds(t *testing.T) {
	t.Parallel()
	l, err := httpapi.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := httpapi.NewServer(httpapi.ServerConfig{Name: "registry API", Listener: l, Handler: http.NotFoundHandler()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ended, end := context.WithCancel(ctx)
	end()
	if err := s.Wait(ctx); err == nil || !strings.Contains(err.Error(), "registry API") {
		t.Fatalf("wait: %v", err)
	}
	if err := s.Wait(ended); err != nil {
		t.Errorf("wait after its context: %v", err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestListenErrors(t *testing.T) {
	t.Parallel()
	l, err := httpapi.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	addr := l.Addr().String()
	want := "cannot listen on " + addr + ": address already in use; stop the other program or choose another port with --port-offset"
	if _, err := httpapi.Listen(t.Context(), addr); err == nil || err.Error() != want {
		t.Fatalf("%v, want %s", err, want)
	}
	if _, err := httpapi.Listen(t.Context(), "192.0.2.1:0"); err == nil || !strings.Contains(err.Error(), "does not have that address") {
		t.Fatalf("%v", err)
	}
	if _, err := httpapi.Listen(t.Context(), "nonsense"); err == nil || !strings.Contains(err.Error(), "host:port") {
		t.Fatalf("%v", err)
	}
}
