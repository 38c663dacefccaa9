package issuer

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/keyward/keyward/keys"
)

// scripted answers commands by their first two bytes; each list is used up from the front and its last answer stays.
type scripted struct {
	answers map[string][]string
	sent    []string
}

func (s *scripted) Transmit(_ context.Context, apdu []byte) ([]byte, error) {
	ins := fmt.Sprintf("%X", apdu[:2])
	s.sent = append(s.sent, ins)
	list := s.answers[ins]
	if len(list) == 0 {
		return nil, errors.New("the card was taken out")
	}
	if len(list) > 1 {
		s.answers[ins] = list[1:]
	}
	return hex.DecodeString(list[0])
}

func (s *scripted) Close() error { return nil }

func TestWrite(t *testing.T) {
	t.Parallel()
	const kcv keys.KCV = "08D7B4FB629D0885"
	const challenge = "112233449000"
	for _, c := range []struct {
		name      string
		kcvs      []string
		challenge string
		write     string
		already   bool
		fault     error
		word      string
	}{
		{"blank", []string{"6A88"}, challenge, "9000", false, nil, ""},
		{"no command to read check values", []string{"6D00"}, challenge, "9000", false, nil, ""},
		{"other key", []string{"112233449000"}, challenge, "9000", false, nil, ""},
		{"there already", []string{"08D7B4FB9000"}, "", "", true, nil, ""},
		{"answer lost before", []string{"6A88", "08D7B4FB9000"}, challenge, "6988", true, nil, ""},
		{"wrong control key", []string{"6A88"}, challenge, "6988", false, errCardRefuses, "transport key"},
		{"locked", []string{"6A88"}, challenge, "6983", false, errCardRefuses, "locked"},
		{"memory fault", []string{"6A88"}, challenge, "6581", false, errCardRefuses, "6581"},
		{"short challenge", []string{"6A88"}, "11229000", "", false, errCardRefuses, "2 bytes, want 4"},
		{"removed at the check value", nil, "", "", false, errCardGone, "check value"},
		{"removed at the challenge", []string{"6A88"}, "", "", false, errCardGone, "challenge"},
		{"removed at the write", []string{"6A88"}, challenge, "", false, errCardGone, "write"},
		{"half an answer", []string{"90"}, "", "", false, errCardGone, "1 bytes"},
		{"check value refused", []string{"6985"}, "", "", false, errCardRefuses, "6985"},
		{"long check value", []string{"08D7B4FB629D9000"}, "", "", false, errCardRefuses, "9000"},
	} {
		answers := map[string][]string{"00A4": {"9000"}, "80F6": c.kcvs}
		if c.challenge != "" {
			answers["0084"] = []string{c.challenge}
		}
		if c.write != "" {
			answers["84D4"] = []string{c.write}
		}
		card := &scripted{answers: answers}
		already, err := chip{card}.write(t.Context(), cardControl, kcv, func(_ context.Context, step, challenge string) ([]byte, error) {
			if step != "card-control" || challenge != "11223344" {
				t.Errorf("%s: script for step %s, challenge %s", c.name, step, challenge)
			}
			return []byte{0x84, 0xD4, 0x00, 0x00, 0x1C}, nil
		})
		if already != c.already || !errors.Is(err, c.fault) || c.fault != nil && !strings.Contains(err.Error(), c.word) {
			t.Errorf("%s: already %v, error %v", c.name, already, err)
		}
	}
}

func TestScriptRefused(t *testing.T) {
	t.Parallel()
	card := &scripted{answers: map[string][]string{"00A4": {"9000"}, "80F6": {"6A88"}, "0084": {"112233449000"}}}
	_, err := chip{card}.write(t.Context(), masterKey, "08D7B4FB", func(context.Context, string, string) ([]byte, error) { return nil, errPeerAway })
	if !errors.Is(err, errPeerAway) || strings.Contains(strings.Join(card.sent, " "), "84D4") {
		t.Errorf("error %v after %v", err, card.sent)
	}
}

func TestNewID(t *testing.T) {
	t.Parallel()
	if id := newID(); len(id) != 36 || id[14] != '4' || id == newID() {
		t.Errorf("id %s", id)
	}
}
