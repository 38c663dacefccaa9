package simreader_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.uber.org/goleak"

	"github.com/keyward/keyward/internal/issuer/simreader"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const card = "60000000000000000001"

func TestReader(t *testing.T) {
	t.Parallel()
	var answer string
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch {
		case r.URL.Path == "/v1/cards" && string(body) == `{"psam_no":"`+card+`"}`:
			w.WriteHeader(http.StatusCreated)
		case r.URL.Path == "/v1/cards/"+card+"/apdu" && string(body) == `{"apdu":"0084000004"}`:
			w.WriteHeader(status)
			_, _ = io.WriteString(w, answer)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer server.Close()
	reader, err := simreader.New(server.URL + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	c, err := reader.Connect(t.Context(), card)
	if err != nil {
		t.Fatal(err)
	}
	answer = `{"response":"112233449000"}`
	if got, err := c.Transmit(t.Context(), []byte{0x00, 0x84, 0x00, 0x00, 0x04}); err != nil || string(got) != "\x11\x22\x33\x44\x90\x00" {
		t.Errorf("got %X, %v", got, err)
	}
	for _, answer = range []string{"", "{}x", `{"response":"xx"}`, `{"response":"9"}`} {
		if got, err := c.Transmit(t.Context(), []byte{0x00, 0x84, 0x00, 0x00, 0x04}); err == nil {
			t.Errorf("answer %q taken as %X", answer, got)
		}
	}
	status, answer = http.StatusInternalServerError, `{"response":"9000"}`
	if _, err := c.Transmit(t.Context(), []byte{0x00, 0x84, 0x00, 0x00, 0x04}); err == nil {
		t.Error("an error answer was taken")
	}
	if _, err := reader.Connect(t.Context(), "1"); err == nil {
		t.Error("connected to no card")
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	server.Close()
	if _, err := reader.Connect(t.Context(), card); err == nil {
		t.Error("connected to nothing")
	}
}

func TestAddress(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "127.0.0.1:8090", "ftp://x", "http://"} {
		if _, err := simreader.New(bad); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}
