package posv_test

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/internal/httpapi/httpapitest"
	"github.com/keyward/keyward/internal/posv"
	"github.com/keyward/keyward/internal/service"
)

// TestCertificateNamesTheActor: with client certificates the certificate counts and the header does not; two people with their own
// certificates sign an order in production without a token.
func TestCertificateNamesTheActor(t *testing.T) {
	t.Parallel()
	serverCert, serverKey := httpapitest.Certificate(t, "posv")
	people := map[string][2]string{}
	var authorities []byte
	for _, name := range []string{"li", "wang", "posp", "bad\tname"} {
		cert, key := httpapitest.Certificate(t, name)
		people[name] = [2]string{cert, key}
		text, err := os.ReadFile(cert)
		if err != nil {
			t.Fatal(err)
		}
		authorities = append(authorities, text...)
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, authorities, 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, func(c *posv.Config) {
		c.Profile, c.Approvers = service.Production, []string{"li", "wang"}
		c.API.TLS = &service.TLSConfig{Cert: serverCert, Key: service.SecretFile(serverKey), CA: ca}
	})
	s.base = "https://" + s.app.Addr().String()
	as := func(name string) *system {
		config, err := httpapi.ClientTLS(people[name][0], people[name][1], serverCert)
		if err != nil {
			t.Fatal(err)
		}
		transport := &http.Transport{TLSClientConfig: config}
		t.Cleanup(transport.CloseIdleConnections)
		return &system{db: s.db, app: s.app, base: s.base, http: &http.Client{Transport: transport, Timeout: patience}}
	}
	li, wang := as("li"), as("wang")
	o := li.must(t, 201, "POST", "/v1/orders", draft(psam(1), 1, "tdes", time.Hour), "X-Operator", "somebody else")
	path := "/v1/orders/" + o["order_id"].(string) + "/approvals"
	if o := li.must(t, 200, "POST", path, "{}", "X-Operator", "wang"); o["author"] != "li" || o["state"] != "draft" {
		t.Errorf("%v", o)
	}
	if o := li.must(t, 200, "POST", path, "{}", "X-Operator", "zhao"); o["state"] != "draft" {
		t.Errorf("the header counted: %v", o)
	}
	if r := as("posp").do(t, "POST", path, "{}"); r.status != 403 {
		t.Errorf("a service's certificate approved: %d %s", r.status, r.body)
	}
	if o := wang.must(t, 200, "POST", path, "{}"); o["state"] != "signed" {
		t.Errorf("%v", o)
	}
	if r := as("bad\tname").do(t, "PUT", "/v1/merchants/"+shop, `{"name":"x"}`); r.status != 403 {
		t.Errorf("%d %s", r.status, r.body)
	}
}
