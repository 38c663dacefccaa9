package control

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/sim/psam"
)

const (
	// cardHistory is how many commands are kept per card: issuing one needs about twenty.
	cardHistory = 200
	// maxAPDU is the longest short command: header 4, Lc 1, data 255, Le 1 (ISO/IEC 7816-4).
	maxAPDU = 261
	// headerSize is CLA INS P1 P2; what follows may be secret and is never kept.
	headerSize = 4
)

// CardEntry is one command in the history of a card: its header and the card's verdict, never data.
type CardEntry struct {
	Time         time.Time `json:"time"`
	Header       string    `json:"header"` // CLA INS P1 P2 in hex, fewer bytes if the command was shorter
	CommandBytes int       `json:"command_bytes"`
	AnswerBytes  int       `json:"answer_bytes"` // with the status word
	Status       string    `json:"status"`       // SW1 SW2 in hex
}

// cardJSON is one card of the tray, and the body of POST /v1/cards.
type cardJSON struct {
	PSAMNo string `json:"psam_no"`
}

// apduJSON is the body of POST apdu, responseJSON its answer.
type apduJSON struct {
	APDU string `json:"apdu"`
}

type responseJSON struct {
	Response string `json:"response"`
}

// tray is the store of cards with a history of what this API sent to each.
type tray struct {
	store   *psam.Store
	refill  bool // whoever asks for a card that is not there finds a blank one
	mu      sync.Mutex
	history map[string][]CardEntry // per card that exists, newest last
}

func newTray(store *psam.Store, refill bool) *tray {
	return &tray{store: store, refill: refill, history: map[string][]CardEntry{}}
}

// card finds the card of the path.
func (t *tray) card(r *http.Request) (*psam.Card, error) {
	card, err := t.store.Get(chi.URLParam(r, "psam"))
	if errors.Is(err, psam.ErrNoCard) {
		return nil, &httpapi.Error{
			Status: http.StatusNotFound, Detail: "there is no card of this number in the tray",
			NextStep: `put a blank one in: POST /v1/cards {"psam_no":"…"}`, Cause: err,
		}
	}
	return card, cardError(err)
}

// cardError tells a number that is none from an image that cannot be read.
func cardError(err error) error {
	if err == nil {
		return nil
	}
	if strings.Contains(err.Error(), "has 20 digits") {
		return &httpapi.Error{Status: http.StatusBadRequest, Detail: "a PSAM number has 20 digits", Cause: err}
	}
	return &httpapi.Error{
		Status: http.StatusInternalServerError, Detail: "the card cannot be read or written",
		NextStep: "look at the simulators' log; a damaged image can be deleted from the cards' directory", Cause: err,
	}
}

func (t *tray) list(w http.ResponseWriter, r *http.Request) error {
	numbers, err := t.store.List()
	if err != nil {
		return cardError(err)
	}
	cards := make([]cardJSON, len(numbers))
	for i, n := range numbers {
		cards[i].PSAMNo = n
	}
	httpapi.WriteJSON(w, r, http.StatusOK, cards)
	return nil
}

// blank puts a blank card into the tray; a card that is there stays as it is.
func (t *tray) blank(w http.ResponseWriter, r *http.Request) error {
	var in cardJSON
	if err := httpapi.DecodeJSON(w, r, &in); err != nil {
		return err
	}
	status := http.StatusCreated
	_, err := t.store.Blank(in.PSAMNo)
	if errors.Is(err, psam.ErrCardExists) {
		status, err = http.StatusOK, nil
	}
	if err != nil {
		return cardError(err)
	}
	httpapi.WriteJSON(w, r, status, in)
	return nil
}

// transmit is the card reader. With refill, the maker's blank card of the number asked for lies in it.
func (t *tray) transmit(w http.ResponseWriter, r *http.Request) error {
	if t.refill {
		if _, err := t.store.Blank(chi.URLParam(r, "psam")); err != nil && !errors.Is(err, psam.ErrCardExists) {
			return cardError(err)
		}
	}
	card, err := t.card(r)
	if err != nil {
		return err
	}
	var in apduJSON
	if err := httpapi.DecodeJSON(w, r, &in); err != nil {
		return err
	}
	apdu, err := hex.DecodeString(in.APDU)
	if err != nil || len(apdu) == 0 || len(apdu) > maxAPDU {
		return &httpapi.Error{Status: http.StatusBadRequest, Detail: fmt.Sprintf("apdu must be 1 to %d bytes in hex", maxAPDU)}
	}
	answer := card.Transmit(apdu)
	t.note(card.Number(), apdu, answer)
	httpapi.WriteJSON(w, r, http.StatusOK, responseJSON{upperHex(answer)})
	return nil
}

func (t *tray) note(psamNo string, apdu, answer []byte) {
	entry := CardEntry{
		Time: time.Now().UTC(), Header: upperHex(apdu[:min(headerSize, len(apdu))]),
		CommandBytes: len(apdu), AnswerBytes: len(answer), Status: upperHex(answer[len(answer)-2:]),
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	list := append(t.history[psamNo], entry)
	if len(list) > cardHistory {
		list = slices.Delete(list, 0, len(list)-cardHistory)
	}
	t.history[psamNo] = list
}

// reset takes the card out of the reader and puts it back: power off and on.
func (t *tray) reset(w http.ResponseWriter, r *http.Request) error {
	card, err := t.card(r)
	if err != nil {
		return err
	}
	card.Reset()
	httpapi.WriteJSON(w, r, http.StatusOK, cardJSON{card.Number()})
	return nil
}

func (t *tray) entries(w http.ResponseWriter, r *http.Request) error {
	card, err := t.card(r)
	if err != nil {
		return err
	}
	limit, err := limitOf(r)
	if err != nil {
		return err
	}
	t.mu.Lock()
	list := t.history[card.Number()]
	list = append([]CardEntry{}, list[max(0, len(list)-limit):]...)
	t.mu.Unlock()
	slices.Reverse(list)
	httpapi.WriteJSON(w, r, http.StatusOK, list)
	return nil
}

func upperHex(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }
