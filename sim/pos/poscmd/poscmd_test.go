package poscmd

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/keyward/keyward/sim/pos"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// control is a control API that answers every command with one result and keeps what it was asked.
type control struct {
	*httptest.Server
	path, body string
}

func startControl(t *testing.T, code int, answer any) *control {
	t.Helper()
	c := &control{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		c.path, c.body = r.Method+" "+r.URL.Path, string(raw)
		w.WriteHeader(code)
		if text, ok := answer.(string); ok {
			_, _ = io.WriteString(w, text)
			return
		}
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(func() { c.Close(); http.DefaultClient.CloseIdleConnections() })
	return c
}

func run(t *testing.T, c *control, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	code = Run(t.Context(), append(args, "--control", c.URL), &out, &errs)
	return code, out.String(), errs.String()
}

func approved() pos.Result {
	balance := int64(-5)
	return pos.Result{
		Terminal: "10000001", Command: "purchase", Outcome: pos.OutcomeApproved, Code: "00", Meaning: "approved", MeaningZH: "交易成功",
		Trace: "000002", Batch: "000001", RRN: "101530000001", PAN: "622202*********0018", AmountFen: 1234, BalanceFen: &balance,
		Actions: []string{"reversed trace 000001: 00"}, Request: &pos.Dump{Raw: "6000", Fields: []string{"MTI  0200"}},
	}
}

func TestPurchase(t *testing.T) {
	t.Parallel()
	c := startControl(t, http.StatusOK, approved())
	code, out, errs := run(t, c, "purchase", "--terminal", "10000007", "--amount", "12.34")
	if code != 0 || errs != "" {
		t.Fatalf("exit %d: %s", code, errs)
	}
	if c.path != "POST /v1/terminals/10000007/purchase" {
		t.Errorf("called %s", c.path)
	}
	if want := `{"amount":1234,"pan":"6222020000000000018","pin":"123456","entry":"swipe","track2":""}`; c.body != want {
		t.Error("the body differs from what the control API wants")
	}
	for _, want := range []string{"purchase: APPROVED", "00 approved 交易成功", "12.34", "-0.05", "622202*********0018", "reversed trace 000001", "101530000001", "MTI  0200"} {
		if !strings.Contains(out, want) {
			t.Errorf("table lacks %q:\n%s", want, out)
		}
	}
}

// TestTrades: every command that moves money calls its own name, with what its flags say.
func TestTrades(t *testing.T) {
	t.Parallel()
	const noCard = `"pan":"","pin":"","entry":"","track2":""`
	for _, tc := range []struct{ args, want string }{
		{"preauth --amount 100", `{"amount":10000,"pan":"6222020000000000018","pin":"123456","entry":"swipe","track2":""}`},
		{"offline --auth-code 123456 --pin=", `{"amount":100,"pan":"6222020000000000018","pin":"","entry":"swipe","track2":"","auth_code":"123456"}`},
		{"offline-chip --pin=", `{"amount":100,"pan":"6222020000000000018","pin":"","entry":"swipe","track2":""}`},
		{"load --pin=", `{"amount":100,"pan":"6222020000000000018","pin":"","entry":"swipe","track2":""}`},
		{"void", `{"amount":0,` + noCard + `}`},
		{"refund --amount 5 --trace 000012", `{"amount":500,` + noCard + `,"original_trace":"000012"}`},
		{"preauth-void", `{"amount":0,` + noCard + `}`},
		{"complete --rrn R00000000001", `{"amount":0,` + noCard + `,"original_rrn":"R00000000001"}`},
		{"complete-void", `{"amount":0,` + noCard + `}`},
		{"advice --amount 0.01", `{"amount":1,` + noCard + `}`},
		{"adjust --amount 2", `{"amount":200,` + noCard + `}`},
		{"tip --amount 2", `{"amount":200,` + noCard + `}`},
		{"offline-refund --pan 6222020000000000018 --entry keyed", `{"amount":0,"pan":"6222020000000000018","pin":"","entry":"keyed","track2":""}`},
		{"script-result", `{"amount":0,` + noCard + `}`},
		{"deliver", ``},
	} {
		t.Run(tc.args, func(t *testing.T) {
			t.Parallel()
			c := startControl(t, http.StatusOK, approved())
			args := strings.Fields(tc.args)
			if code, _, errs := run(t, c, args...); code != 0 || errs != "" {
				t.Fatalf("exit %d: %s", code, errs)
			}
			if c.path != "POST /v1/terminals/10000001/"+args[0] || c.body != tc.want {
				t.Errorf("called %s with %s", c.path, c.body)
			}
		})
	}
}

func TestJSONOutput(t *testing.T) {
	t.Parallel()
	c := startControl(t, http.StatusOK, approved())
	code, out, _ := run(t, c, "balance", "--output", "json")
	var r pos.Result
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 0 || r.Code != "00" {
		t.Errorf("exit %d, %v", code, err)
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		status int
		answer any
		args   []string
		code   int
		says   string
	}{
		{"declined", 200, pos.Result{Outcome: pos.OutcomeDeclined, Code: "51"}, []string{"purchase"}, 1, ""},
		{"in doubt", 200, pos.Result{Outcome: pos.OutcomeInDoubt}, []string{"purchase"}, 2, ""},
		{"failed", 200, pos.Result{Outcome: pos.OutcomeFailed, Error: "not signed on"}, []string{"signon"}, 2, ""},
		{"no terminal", 404, map[string]string{"error": "no such terminal: 1"}, []string{"echo"}, 2, "/v1/terminals"},
		{"foreign server", 200, "<html>", []string{"echo"}, 2, "another program"},
		{"foreign refusal", 500, "<html>", []string{"echo"}, 2, "another program"},
		{"bad amount", 200, approved(), []string{"purchase", "--amount", "1.234"}, 2, "two decimals"},
		{"bad output", 200, approved(), []string{"echo", "--output", "xml"}, 2, "table or json"},
		{"unknown flag", 200, approved(), []string{"echo", "--pan", "1"}, 2, "unknown flag"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			code, _, errs := run(t, startControl(t, tc.status, tc.answer), tc.args...)
			if code != tc.code || !strings.Contains(errs, tc.says) {
				t.Errorf("exit %d, %q", code, errs)
			}
		})
	}
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	c := startControl(t, 200, approved())
	c.Close()
	if code, _, errs := run(t, c, "signon"); code != 2 || !strings.Contains(errs, "make dev") {
		t.Errorf("exit %d, %q", code, errs)
	}
}

func TestPINIsNotShown(t *testing.T) {
	t.Parallel()
	c := startControl(t, http.StatusOK, approved())
	for _, args := range [][]string{{"purchase", "--help"}, {"balance", "--help"}, {"purchase", "--pin", "87654321"}, {"purchase", "--pin", "87654321", "--amount", "x"}} {
		_, out, errs := run(t, c, args...)
		if strings.Contains(out+errs, defaultPIN) || strings.Contains(out+errs, "87654321") {
			t.Errorf("%v shows a PIN", args[:1])
		}
	}
}

func TestParseAmount(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"1": 100, "1.5": 150, "12.34": 1234, "0.01": 1, "9999999999.99": 999999999999} {
		if got, err := parseAmount(text); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", ".5", "1.", "1.234", "-1", "1,5", "1e3", "99999999999999999999"} {
		if _, err := parseAmount(text); err == nil {
			t.Errorf("%q accepted", text)
		}
	}
}
