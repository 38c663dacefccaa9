package bank

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
)

// call is one call of the control API, mounted as it is in the dev system.
func call(t *testing.T, b *Bank, method, path, body string, status int) map[string]any {
	t.Helper()
	root := chi.NewRouter()
	root.Mount("/v1/bank", b.Routes())
	w := httptest.NewRecorder()
	root.ServeHTTP(w, httptest.NewRequest(method, "/v1/bank"+path, strings.NewReader(body)))
	if w.Code != status || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("%s %s: %d %s: %s", method, path, w.Code, w.Header().Get("Content-Type"), w.Body)
	}
	var out map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	if (status == http.StatusOK) == (out["error"] != nil) {
		t.Fatalf("%s %s: %d with %v", method, path, status, out)
	}
	return out
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	c := signedOn(t, b)
	call(t, b, "PUT", "/faults", `{"faults":[{"kind":"hold","mti":"0200","next":1},{"kind":"wrong_mac","mti":"0400"}]}`, 200)
	c.send("0200", purchase(1))
	if err := b.WaitHeld(t.Context(), "0200"); err != nil {
		t.Fatal(err)
	}
	status := call(t, b, "GET", "/", "", 200)
	if status["addr"] != b.Addr() || status["listening"] != true || status["connections"] != 1.0 || status["signed_on"] != 1.0 ||
		status["held"] != 1.0 || len(status["faults"].([]any)) != 1 {
		t.Errorf("status %v", status)
	}
	if out := call(t, b, "POST", "/release", "", 200); out["released"] != 1.0 {
		t.Errorf("release %v", out)
	}
	c.read().want(t, "0210", "00")
	if out := call(t, b, "DELETE", "/faults", "", 200); len(out["faults"].([]any)) != 0 || len(b.Faults()) != 0 {
		t.Errorf("faults left %v", out)
	}

	history := call(t, b, "GET", "/history?limit=1", "", 200)["history"].([]any)
	last := history[0].(map[string]any)
	if len(history) != 1 || last["trace"] != "000001" || last["booked"] != true || last["pan"] != "622202*********0018" ||
		last["response_code"] != "00" || last["amount"] != 100.0 {
		t.Errorf("history %v", history)
	}
	if all := call(t, b, "GET", "/history", "", 200)["history"].([]any); len(all) != 2 {
		t.Errorf("%d messages", len(all))
	}
	book := call(t, b, "GET", "/book", "", 200)
	booking := book["bookings"].([]any)[0].(map[string]any)
	if booking["state"] != "booked" || booking["terminal"] != "10000001" || book["totals"].(map[string]any)["booked_amount"] != 100.0 {
		t.Errorf("book %v", book)
	}
	call(t, b, "POST", "/reset", "", 200)
	if view := b.Book(); len(view.Bookings) != 0 || view.Balances[0].Balance != opening || len(b.History(0)) != 0 {
		t.Errorf("after reset: %+v", view)
	}
	call(t, b, "PUT", "/faults", `{"faults":[{"kind":"down"}]}`, 200)
	if status := call(t, b, "GET", "/", "", 200); status["listening"] != false {
		t.Errorf("status while down %v", status)
	}
	call(t, b, "PUT", "/faults", `{"faults":[]}`, 200)
	signedOn(t, b)
}

func TestRoutesRefuse(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	for _, body := range []string{
		"", "[]", `{"faults":[{"kind":"slow"}]}`, `{"faults":[{"kind":"late","delay":5}]}`, `{"fault":[]}`,
		`{"faults":[` + strings.Repeat(`{"kind":"hold"},`, maxFaults) + `{"kind":"hold"}]}`,
		`{"faults":[` + strings.Repeat(" ", maxBody) + `]}`,
	} {
		call(t, b, "PUT", "/faults", body, http.StatusBadRequest)
	}
	for _, limit := range []string{"0", "-1", "x"} {
		call(t, b, "GET", "/history?limit="+limit, "", http.StatusBadRequest)
	}
}
