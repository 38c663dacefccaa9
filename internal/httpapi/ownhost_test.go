package httpapi_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/keyward/keyward/internal/httpapi"
)

// TestOwnHost: a plain listener on a loopback address answers to addresses and localhost only, others to every name.
func TestOwnHost(t *testing.T) {
	t.Parallel()
	ok := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	local := start(t, httpapi.ServerConfig{Handler: ok}).Addr().String()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	open, err := httpapi.NewServer(httpapi.ServerConfig{Name: "open API", Listener: l, Handler: ok})
	if err != nil {
		t.Fatal(err)
	}
	if err := open.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = open.Stop(context.Background()) })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	tests := []struct {
		addr, host string
		want       int
	}{
		{local, "", http.StatusNoContent},
		{local, "localhost", http.StatusNoContent},
		{local, "LOCALHOST:8080", http.StatusNoContent},
		{local, "127.0.0.1:8080", http.StatusNoContent},
		{local, "[::1]:8080", http.StatusNoContent},
		{local, "[::1]", http.StatusNoContent},
		{local, "evil.example", http.StatusForbidden},
		{local, "evil.example:8080", http.StatusForbidden},
		{local, "127.0.0.1.evil.example", http.StatusForbidden},
		{local, "localhost.evil.example", http.StatusForbidden},
		{"127.0.0.1:" + port, "pos.bank.example", http.StatusNoContent},
	}
	for _, test := range tests {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+test.addr+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = test.host
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != test.want || strings.Contains(string(body), "evil") {
			t.Errorf("Host %q at %s: %d %s, want %d", test.host, test.addr, res.StatusCode, body, test.want)
		}
	}
}
