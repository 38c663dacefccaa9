package control_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/keyward/keyward/sim/control"
	"github.com/keyward/keyward/sim/hsm"
)

// TestBreakWithoutSilence: ways in which the device goes on answering, wrongly.
func TestBreakWithoutSilence(t *testing.T) {
	t.Parallel()
	b := start(t, testConfig(t))
	const zmk = "U1457FF6ADF6250C66C368416B4C9D383" // The published ZMK of the test LMK (facts/hsm.md §2.4).
	addr := b.app.HSMAddr("hsm1", "online").String()
	for how, command := range map[string]string{"wrong_lmk": "NC", "wrong_result": "BU001" + zmk} {
		right, err := ask(addr, "0001"+command, testWait)
		if err != nil || right[6:8] != "00" {
			t.Fatalf("%s: %q %v", command, right, err)
		}
		if status, err := b.BreakHSM(t.Context(), "hsm1", how); err != nil || status.Healthy {
			t.Fatalf("%s: %+v %v", how, status, err)
		}
		if wrong, err := ask(addr, "0001"+command, testWait); err != nil || wrong == right || wrong[:8] != right[:8] {
			t.Errorf("%s: %q %v", how, wrong, err)
		}
		if status, err := b.MendHSM(t.Context(), "hsm1"); err != nil || !status.Healthy {
			t.Fatalf("mend after %s: %+v %v", how, status, err)
		}
	}
}

// TestDeviceSettings: what a configuration says about a device reaches it.
func TestDeviceSettings(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	cfg.HSMs[0].HeaderLength, cfg.HSMs[0].DefaultLMK, cfg.HSMs[0].BlockLMKSeed, cfg.HSMs[0].RatedPerSecond = new(8), "01", "x", 100
	cfg.HSMs[1].Set, cfg.HSMs[1].LengthRule, cfg.HSMs[1].Firmware, cfg.HSMs[1].Serial = "sjj1310", "payload", "V1.48", "TASS0001"
	b := start(t, cfg)
	first, err := ask(b.app.HSMAddr("hsm1", "online").String(), "HEADER01NC", testWait)
	if err != nil || first[:12] != "HEADER01ND00" || strings.HasPrefix(first[12:], "26860474") || strings.HasPrefix(first[12:], "DB3FB663") {
		t.Errorf("hsm1 answers %q %v", first, err)
	}
	port := cfg.HSMs[1].Ports[0].Name
	if port == "" {
		port = cfg.HSMs[1].Ports[0].Group
	}
	conn, err := net.DialTimeout("tcp", b.app.HSMAddr("hsm2", port).String(), testWait)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }() // the exchange is over
	if _, err := conn.Write([]byte("\x00\x020001NC")); err != nil {
		t.Fatal(err)
	}
	answer := "\x00\x380001ND00" + "2686047444912422" + "V1.48" + strings.Repeat(" ", 19) + "TASS0001    "
	got := make([]byte, len(answer))
	_ = conn.SetReadDeadline(time.Now().Add(testWait)) // it fails only on a closed connection, which the read reports
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != answer {
		t.Errorf("hsm2 answers %q %v", got, err)
	}
	cfg.HSMs[1].OldLMKs = map[string]string{"01": "00"}
	if _, err := control.New(cfg, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("an old LMK for an LMK that the device has not is accepted")
	}
}

// TestFaultsAreDescribed: openapi.json has every fault by its name.
func TestFaultsAreDescribed(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Components struct {
			Schemas map[string]struct {
				Properties map[string]any `json:"properties"`
			} `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	described, fields := doc.Components.Schemas["HSMFaults"].Properties, reflect.TypeFor[hsm.Faults]()
	for i := range fields.NumField() {
		if name := fields.Field(i).Tag.Get("json"); described[name] == nil {
			t.Errorf("openapi.json does not describe the fault %s", name)
		}
	}
	if len(described) != fields.NumField() {
		t.Errorf("openapi.json describes %d faults, there are %d", len(described), fields.NumField())
	}
}
