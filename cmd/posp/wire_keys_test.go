package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyward/keyward/internal/keyservice/keyservicetest"
	"github.com/keyward/keyward/internal/pgtest"
	"github.com/keyward/keyward/keys"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// keysConfig writes a configuration of the key service for the fixture's database, HSM and certificates.
func keysConfig(t *testing.T, s *keyservicetest.Service, addr string) string {
	t.Helper()
	file := filepath.Join(s.Dir, "keys.yaml")
	text := fmt.Sprintf(`profile: dev
log: {level: error, format: text}
database: {url_file: database-url}
listen:
  addr: %[3]s
  tls: {cert: %[1]s/keys.crt, key: keys.key, ca: %[1]s/ca.pem}
hsm:
  domain: dev
  members: [{name: hsm1, addr: "%[2]s"}]
order_key: %[1]s/order.pub
`, s.Dir, s.Device.Addr("issuing"), addr)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestKeysImport(t *testing.T) {
	t.Parallel()
	s := keyservicetest.New(t, keyservicetest.Options{NoImport: true})
	config := keysConfig(t, s, "127.0.0.1:0")
	key := s.Wrap(t, keys.Root, keys.TDES, "0123456789ABCDEFFEDCBA9876543210")
	for _, c := range []struct {
		args string
		word string
		ok   bool
	}{
		{"--kcv 111111", "you said 111111", false}, {"--kcv x", "6 to 32 hex", false}, {"--usage nothing", "--usage", false}, {"--algorithm rot13", "--algorithm", false},
		{"--kcv 08D7B4", "PSAM-ROOT root/tdes version 1, check value 08D7B4FB629D0885: stored", true}, {"", "stored", true},
	} {
		var out bytes.Buffer
		root := command()
		root.SetArgs(append([]string{"keys", "import", "--config", config, "--name", "PSAM-ROOT", "--usage", "root", "--cryptogram", key.Cryptogram}, strings.Fields(c.args)...))
		root.SetOut(&out)
		err := root.ExecuteContext(t.Context())
		text := out.String() + fmt.Sprint(err)
		if (err == nil) != c.ok || !strings.Contains(text, c.word) {
			t.Errorf("%q: %s", c.args, text)
		}
		if strings.Contains(text, key.Cryptogram) {
			t.Errorf("%q: the output shows the cryptogram", c.args)
		}
	}
}

// The wiring brings the key service up, serves clients with certificates, and ends cleanly.
func TestKeysServe(t *testing.T) {
	t.Parallel()
	s := keyservicetest.New(t, keyservicetest.Options{})
	free, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	config := keysConfig(t, s, addr)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- serveKeyService(ctx, config) }()
	for ready := false; !ready; {
		select {
		case err := <-ended:
			t.Fatalf("ended by itself: %v", err)
		case <-time.After(20 * time.Millisecond): // a service in the same process tells nobody that it listens; the test's time-out bounds the loop
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+addr+"/readyz", nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := s.Client.Do(r); err == nil {
			ready = resp.StatusCode == http.StatusOK
			_ = resp.Body.Close()
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := serveKeyService(t.Context(), filepath.Join(s.Dir, "none.yaml")); err == nil {
		t.Error("served without a configuration")
	}
}
