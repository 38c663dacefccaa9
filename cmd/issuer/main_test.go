package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// runCommand runs a command line and returns its output and exit code.
func runCommand(t *testing.T, args ...string) (out string, text string, code int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	root := rootCommand()
	root.SetArgs(args)
	root.SetOut(&stdout)
	root.SetErr(&stderr)
	err := root.ExecuteContext(t.Context())
	if err != nil {
		return stdout.String(), err.Error(), exitCode(err)
	}
	return stdout.String(), "", 0
}

// service answers as the issuer does; card …0003 is refused.
func fakeService(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch {
		case r.Method == http.MethodPost && r.Header.Get("Idempotency-Key") == "", r.Header.Get("X-Operator") == "":
			w.WriteHeader(http.StatusBadRequest)
		case strings.Contains(string(body), "0003"):
			w.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(w, `{"detail":"no open, signed order covers the card","next_step":"have an order approved"}`)
		case r.Method == http.MethodPost:
			var in map[string]string
			_ = json.Unmarshal(body, &in)
			_, _ = io.WriteString(w, `{"run_id":"r1","psam_no":"`+in["psam_no"]+`","state":"personalised","kcv":"08D7B4FB629D0885","steps":[]}`)
		case r.URL.Path == "/v1/runs":
			_, _ = io.WriteString(w, `{"runs":[{"run_id":"r1","psam_no":"60000000000000000001","state":"failed","step":"master","error":"card gone"}]}`)
		default:
			_, _ = io.WriteString(w, `{"psam_no":"60000000000000000001","keys":[{"name":"PSAM:60000000000000000001","usage":"tmk","algorithm":"tdes","version":1,"kcv":"08D7B4FB629D0885","state":"active"}],"runs":[]}`)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func TestCommands(t *testing.T) {
	t.Parallel()
	api := fakeService(t).URL
	for _, c := range []struct {
		args  string
		code  int
		words []string
	}{
		{"card issue --psam 60000000000000000001", 0, []string{"PSAM NUMBER", "60000000000000000001", "personalised", "08D7B4FB629D0885"}},
		{"card issue --psam 60000000000000000001 --count 2 --output json", 0, []string{`"psam_no": "60000000000000000002"`, `"run_id": "r1"`}},
		{"card issue --psam 60000000000000000001 --count 5", 1, []string{"2 of 5 cards issued", "card 60000000000000000003", "order approved"}},
		{"card issue --psam 60000000000000000003", 1, []string{"no open, signed order", "next step"}},
		{"card issue --psam 1", 1, []string{"20 digits"}}, {"card issue", 1, []string{"psam"}},
		{"card issue --psam 60000000000000000001 --count 0", 1, []string{"--count"}},
		{"card issue --psam 99999999999999999999 --count 2", 1, []string{"beyond 20 digits"}},
		{"card show --psam 60000000000000000001", 0, []string{"tmk", "08D7B4FB629D0885", "active"}},
		{"card show --psam 60000000000000000001 -o json", 0, []string{`"usage": "tmk"`}},
		{"runs list --psam 60000000000000000001", 0, []string{"failed", "master", "card gone"}},
		{"runs list -o json", 0, []string{`"state": "failed"`}}, {"runs list -o xml", 1, []string{"table or json"}},
		{"runs list --api http://127.0.0.1:1", 2, []string{"cannot be reached"}}, {"unknown", 1, []string{"unknown command"}},
		{"completion bash", 0, []string{"issuer"}},
	} {
		args := strings.Fields(c.args)
		if !strings.Contains(c.args, "--api") && args[0] != "unknown" && args[0] != "completion" {
			args = append(args, "--api", api)
		}
		out, text, code := runCommand(t, args...)
		if code != c.code {
			t.Errorf("%s: exit code %d, want %d: %s", c.args, code, c.code, text)
		}
		for _, w := range c.words {
			if !strings.Contains(out+text, w) {
				t.Errorf("%s: no %q in %s%s", c.args, w, out, text)
			}
		}
	}
}

func TestProgressBar(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	p := progress{out: &b, total: 4, shown: true}
	p.show(2, "60000000000000000003")
	p.end(4)
	if s := b.String(); !strings.Contains(s, "2/4") || !strings.Contains(s, strings.Repeat("#", barWidth)+"] 4/4") || !strings.HasSuffix(s, "\n") {
		t.Errorf("bar %q", s)
	}
	b.Reset()
	p.shown = false
	p.show(1, "x")
	p.end(4)
	if b.Len() != 0 || isTerminal(&b) {
		t.Error("a bar where nobody watches")
	}
}

func TestServeRefusesABadConfiguration(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "issuer.yaml")
	if err := os.WriteFile(file, []byte("profile: production\nreader:\n  driver: sim\n  url: http://127.0.0.1:8090\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, text, code := runCommand(t, "serve", "--config", file); code != 1 || !strings.Contains(text, "simulated cards") {
		t.Errorf("exit code %d: %s", code, text)
	}
}
