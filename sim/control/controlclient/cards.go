package controlclient

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"

	"github.com/keyward/keyward/sim/control"
)

// Cards lists the numbers of the cards in the tray.
func (c *Client) Cards(ctx context.Context) ([]string, error) {
	cards, err := get[[]struct {
		PSAMNo string `json:"psam_no"`
	}](ctx, c, "/v1/cards")
	numbers := make([]string, len(cards))
	for i := range cards {
		numbers[i] = cards[i].PSAMNo
	}
	return numbers, err
}

// BlankCard puts a blank card into the tray; a card that is there stays as it is.
func (c *Client) BlankCard(ctx context.Context, psamNo string) error {
	return c.call(ctx, http.MethodPost, "/v1/cards", map[string]string{"psam_no": psamNo}, nil)
}

// Transmit sends a command APDU to a card and returns its answer with the status word.
func (c *Client) Transmit(ctx context.Context, psamNo string, apdu []byte) ([]byte, error) {
	out, err := send[struct{ Response string }](ctx, c, http.MethodPost, cardPath(psamNo, "apdu"), map[string]string{"apdu": hex.EncodeToString(apdu)})
	if err != nil {
		return nil, err
	}
	answer, err := hex.DecodeString(out.Response)
	if err != nil || len(answer) < 2 {
		return nil, fmt.Errorf("simulators' control API: the card's answer is not hex with a status word")
	}
	return answer, nil
}

// ResetCard is power off and on.
func (c *Client) ResetCard(ctx context.Context, psamNo string) error {
	return c.call(ctx, http.MethodPost, cardPath(psamNo, "reset"), nil, nil)
}

// CardHistory shows the last commands that this API sent to a card, the newest first.
func (c *Client) CardHistory(ctx context.Context, psamNo string) ([]control.CardEntry, error) {
	return get[[]control.CardEntry](ctx, c, cardPath(psamNo, "history"))
}

func cardPath(psamNo, what string) string { return "/v1/cards/" + url.PathEscape(psamNo) + "/" + what }
