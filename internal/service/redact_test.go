package service_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/keyward/keyward/internal/service"
)

const (
	pan    = "6222020000000000018"
	pan16  = "4111111111111111"
	keyHex = "0123456789abcdefFEDCBA9876543210"
	pem    = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ\n-----END PRIVATE KEY-----"
)

func TestLogMasks(t *testing.T) {
	t.Parallel()
	keyBytes := []byte{1, 35, 69, 103, 137, 171, 205, 239, 254, 220, 186, 152, 118, 84, 50, 16}
	leaks := []string{pan, pan16, "411111111111111 1", strings.ToLower(keyHex), "mc4caqawbqydk2vwbciei", "35 69 103 137", "35,69,103", strings.ToLower(base64.StdEncoding.EncodeToString(keyBytes))}
	values := map[string]any{
		"text": "card " + pan + " paid", "track": pan16 + "=2512", "track with D": pan16 + "D2512101", "padded": pan + "F",
		"key": keyHex, "two": pan + "," + keyHex, "pem": "x" + pem + "y", "cut pem": pem[:40],
		"int": int64(4111111111111111), "uint": uint64(6222020000000000018), "float": float64(4111111111111111), "error": errors.New("refused " + pan),
		"bytes": keyBytes, "array": [16]byte(keyBytes), "struct": struct{ K []byte }{keyBytes}, "pointer": &struct{ K []byte }{keyBytes},
		"tagged": struct {
			N string `json:"n"`
		}{pan}, "map": map[string]string{pan: keyHex}, "raw": json.RawMessage(`"` + pan + `"`),
		"group": slog.GroupValue(slog.String("inner", pan), slog.Group("deeper", "k", keyHex)),
	}
	for _, format := range []string{"text", "json"} {
		for name, v := range values {
			var out bytes.Buffer
			log, err := service.NewLogger(&out, "debug", format)
			if err != nil {
				t.Fatal(err)
			}
			log.Info("message", "v", v)
			log.With("v", v).WithGroup("g").Debug("with", "v", v)
			got := strings.ToLower(out.String())
			for _, leak := range leaks {
				if strings.Contains(got, leak) {
					t.Errorf("%s as %s: shows %q: %s", name, format, leak, got)
				}
			}
			if format == "json" {
				for line := range strings.Lines(out.String()) {
					if !json.Valid([]byte(line)) {
						t.Errorf("%s: no longer JSON: %s", name, line)
					}
				}
			}
		}
	}
	var out bytes.Buffer
	log, _ := service.NewLogger(&out, "info", "text")
	log.Info("paid " + pan)
	if !strings.Contains(out.String(), "622202*********0018") {
		t.Errorf("the masked number is missing: %s", out.String())
	}
}

func TestLogKeepsTheRest(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log, err := service.NewLogger(&out, "info", "text")
	if err != nil {
		t.Fatal(err)
	}
	keep := []any{
		"terminal", "10000001", "merchant", "104110000000001", "psam", "60000000000000000001", "rrn", "123456789012",
		"not a card", "4111111111111112", "short hex", "0123456789abcdef", "took", 1500 * time.Millisecond, "n", 42,
		"ip", net.IPv4(127, 0, 0, 1), "uuid", "0f8fad5b-d9cb-469f-a165-70867728950e", "list", []int{1, 2, 3},
	}
	log.Info("plain message", keep...)
	for _, want := range []string{"10000001", "104110000000001", "60000000000000000001", "123456789012", "4111111111111112", "0123456789abcdef", "1.5s", "42", "127.0.0.1", "0f8fad5b-d9cb-469f-a165-70867728950e", "[1 2 3]"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is gone: %s", want, out.String())
		}
	}
	out.Reset()
	log.Debug("below the level")
	if out.Len() > 0 {
		t.Error("debug was written at level info")
	}
	for _, bad := range [][2]string{{"loud", "text"}, {"info", "xml"}} {
		if _, err := service.NewLogger(io.Discard, bad[0], bad[1]); err == nil {
			t.Errorf("accepted %v", bad)
		}
	}
}

func FuzzLogMasks(f *testing.F) {
	f.Add("a", "b")
	f.Add("0123456789abcdef", "-----BEGIN X")
	f.Fuzz(func(t *testing.T, before, after string) {
		var out bytes.Buffer
		log, _ := service.NewLogger(&out, "info", "text")
		log.Info("m", "v", before+" "+pan16+" "+after)
		if strings.Contains(out.String(), " "+pan16+" ") {
			t.Fatal("a card number passed")
		}
	})
}

func BenchmarkLog(b *testing.B) {
	for _, masked := range []bool{false, true} {
		name := "plain"
		log := slog.New(slog.NewTextHandler(io.Discard, nil)) //nolint:sloglint // The formatting is what masking is measured against.
		if masked {
			name = "masked"
			log, _ = service.NewLogger(io.Discard, "info", "text")
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				log.LogAttrs(context.Background(), slog.LevelInfo, "transaction", slog.String("terminal", "10000001"), slog.String("pan", "622202*********0018"),
					slog.String("rrn", "123456789012"), slog.Int("stan", 17), slog.Duration("took", time.Millisecond))
			}
		})
	}
}
