package posv_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyward/keyward/internal/posv"
	"github.com/keyward/keyward/internal/service"
)

// TestSampleConfiguration loads the sample of docs/registry.md as production would.
func TestSampleConfiguration(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/registry.md")
	if err != nil {
		t.Fatal(err)
	}
	_, sample, found := strings.Cut(string(page), "```yaml\n")
	sample, _, _ = strings.Cut(sample, "```")
	if !found {
		t.Fatal("docs/registry.md has no sample")
	}
	dir := t.TempDir()
	for _, name := range []string{"secrets/database-url", "secrets/token", "secrets/order.pem", "tls/posv.key", "posv.yaml"} {
		content := "x"
		if name == "posv.yaml" {
			content = sample
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := posv.DefaultConfig()
	if err := service.LoadConfig(filepath.Join(dir, "posv.yaml"), &c); err != nil {
		t.Fatal(err)
	}
	if c.Profile != service.Production || c.API.TLS == nil || c.TokenFile != service.SecretFile(filepath.Join(dir, "secrets/token")) {
		t.Errorf("%+v", c)
	}
	approvers := c.Approvers
	for _, few := range [][]string{nil, {"li"}} {
		c.Approvers = few
		if err := c.Validate(); err == nil {
			t.Errorf("approvers %q passed for production", few)
		}
	}
	c.Approvers = approvers
	c.API.TLS, c.TokenFile = nil, ""
	if err := c.Validate(); err == nil {
		t.Error("a plain listener without a token passed for production")
	}
}
