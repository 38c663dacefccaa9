package keyservice_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/keyward/keyward/internal/hsmops"
	"github.com/keyward/keyward/internal/hsmops/hsmopstest"
	"github.com/keyward/keyward/internal/keyservice/keyservicetest"
)

// TestOperation: the key service's own listener serves the operation of its group. posp may look; operators alone may change; a certificate
// that nobody named may neither.
func TestOperation(t *testing.T) {
	t.Parallel()
	cluster := hsmopstest.NewCluster()
	operation, err := hsmops.New(hsmops.Options{Cluster: cluster, Operators: []string{"li.na"}, Readers: []string{"posp"}})
	if err != nil {
		t.Fatal(err)
	}
	s := keyservicetest.New(t, keyservicetest.Options{Operation: operation})
	as := func(name string) *hsmops.Client {
		id := s.Identity(t, name)
		c, err := hsmops.NewClient(hsmops.ClientConfig{URL: s.URL, Cert: id.Cert, Key: id.Key, CA: id.CA})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	for name, want := range map[string][2]string{"li.na": {"", ""}, "posp": {"", "403"}, "stranger": {"403", "403"}} {
		c := as(name)
		for i, err := range []error{c.Get(t.Context(), "/members", nil, nil), c.Do(t.Context(), "/members/hsm1/fault/clear", nil, nil)} {
			if (err == nil) != (want[i] == "") || err != nil && !strings.Contains(err.Error(), want[i]) {
				t.Errorf("%s, call %d: %v, want %q", name, i, err, want[i])
			}
		}
	}
	if calls := cluster.Calls(); len(calls) != 1 || calls[0] != "clear hsm1 by li.na" {
		t.Errorf("done: %q", calls)
	}
	resp, err := s.Client.Get(s.URL + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var doc struct{ Paths map[string]any }
	if err := json.NewDecoder(resp.Body).Decode(&doc); err != nil || resp.StatusCode != http.StatusOK || doc.Paths["/v1/hsm/members/{name}/state"] == nil || doc.Paths["/v1/cards"] == nil {
		t.Errorf("document: %d, %v", resp.StatusCode, err)
	}
}
