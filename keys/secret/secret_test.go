package secret_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/keyward/keyward/keys/secret"
)

// holder shows that a secret stays hidden as an exported and as an unexported field of another type.
type holder struct {
	Open   secret.Bytes
	closed secret.Bytes
	Card   secret.PAN
	card   secret.PAN
}

func TestNothingPrintsASecret(t *testing.T) {
	t.Parallel()
	const clear = "KEYMATERIAL-0123"
	const pan = "6222020000000000018"
	card, err := secret.ParsePAN(pan)
	if err != nil {
		t.Fatal(err)
	}
	s := secret.NewString(clear)
	h := holder{Open: s, closed: s, Card: card, card: card}
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%c", "%U", "%e", "%p", "%t", "% x", "%10v"} {
		for _, v := range []any{s, &s, h, &h, []secret.Bytes{s}, map[string]secret.Bytes{"k": s}, card, &card, []any{s, card}} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
	}
	for _, v := range []any{s, h, card, map[string]any{"s": s, "c": card}} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
	}
	var logs bytes.Buffer
	slog.New(slog.NewJSONHandler(&logs, nil)).Info("m", "s", s, "h", h, "c", card)
	slog.New(slog.NewTextHandler(&logs, nil)).Info("m", "s", s, "h", h, "c", card)
	out.Write(logs.Bytes())
	all := strings.ToLower(out.String())
	decimal := strings.Trim(fmt.Sprint([]byte(clear)), "[]")
	for _, leak := range []string{clear, hex.EncodeToString([]byte(clear)), decimal, pan, "0000000000"} {
		if strings.Contains(all, strings.ToLower(leak)) {
			t.Fatalf("a secret was printed in the form %q", leak)
		}
	}
	if !strings.Contains(all, "622202*********0018") {
		t.Fatal("the masked card number is nowhere to be seen")
	}
}

func TestBytes(t *testing.T) {
	t.Parallel()
	in := []byte{1, 2, 3}
	s := secret.New(in)
	in[0] = 9
	if !bytes.Equal(s.Reveal(), []byte{1, 2, 3}) {
		t.Fatal("New must take a copy")
	}
	if !s.Equal(secret.New([]byte{1, 2, 3})) || s.Equal(secret.New([]byte{1, 2})) || s.Equal(secret.Bytes{}) {
		t.Fatal("Equal is wrong")
	}
	s.Wipe()
	if !bytes.Equal(s.Reveal(), []byte{0, 0, 0}) {
		t.Fatal("Wipe left something")
	}
	var none secret.Bytes
	none.Wipe()
	if !none.IsZero() || none.Reveal() != nil {
		t.Fatal("zero value is not empty")
	}
}

func TestMaskPANFailsClosed(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "", "1234567": "***", "622202000000": "***", "6222020000000": "622202***0000",
		"6222020000000000018": "622202*********0018", "62220200000000000181": "***", "6222020000000D00": "***",
	} {
		if got := secret.MaskPAN(in); got != want {
			t.Errorf("MaskPAN of %d characters = %q, want %q", len(in), got, want)
		}
	}
	for _, bad := range []string{"", "1234567", "62220200000000000181", "62220200000000x", "６２２２０２００"} {
		if _, err := secret.ParsePAN(bad); err == nil || (bad != "" && strings.Contains(err.Error(), bad)) {
			t.Errorf("ParsePAN: %v", err)
		}
	}
}
