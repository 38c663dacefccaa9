package issuer

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/internal/order"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
)

// callTimeout bounds one call: the relay to the key service takes 15 s at most.
const callTimeout = 20 * time.Second

// errPeerAway says that another service could not be reached or could not work.
var errPeerAway = errors.New("another service does not answer")

// peerError is a refusal by another service, with what it told people to do.
type peerError struct {
	peer     string
	status   int
	detail   string
	nextStep string
}

func (e *peerError) Error() string {
	return fmt.Sprintf("%s answered %d: %s", e.peer, e.status, e.detail)
}

// peer calls one other service.
type peer struct {
	name  string
	url   string
	token secret.Bytes // empty: none is sent
	http  *http.Client
}

func newPeer(name string, cfg Peer) (*peer, error) {
	transport := &http.Transport{MaxIdleConns: maxRuns, MaxIdleConnsPerHost: maxRuns}
	if cfg.TLS != nil {
		tls, err := httpapi.ClientTLS(cfg.TLS.Cert, string(cfg.TLS.Key), cfg.TLS.CA)
		if err != nil {
			return nil, fmt.Errorf("%s.tls: %w", name, err)
		}
		transport.TLSClientConfig = tls
	}
	p := &peer{name: name, url: strings.TrimRight(cfg.URL, "/"), http: &http.Client{Timeout: callTimeout, Transport: transport}}
	if cfg.TokenFile != "" {
		var err error
		if p.token, err = cfg.TokenFile.Read(); err != nil {
			return nil, fmt.Errorf("%s.token_file: %w", name, err)
		}
	}
	return p, nil
}

// call sends one request on behalf of an actor. key is the idempotency key, empty for none. A refusal is a *peerError.
func (p *peer) call(ctx context.Context, actor, method, path, key string, in, out any) error {
	err := httpapi.Call{
		Method: method, URL: p.url + path, IdempotencyKey: key, Operator: actor, Token: p.token, Body: in,
	}.Do(ctx, p.http, out)
	var refusal *httpapi.Refusal
	switch {
	case errors.As(err, &refusal):
		said := &peerError{peer: p.name, status: refusal.Status, detail: refusal.Detail, nextStep: refusal.NextStep}
		if refusal.Status >= http.StatusInternalServerError {
			return fmt.Errorf("%w: %w", errPeerAway, said)
		}
		return said
	case errors.Is(err, httpapi.ErrNoAnswer), errors.Is(err, httpapi.ErrNotOurs):
		return fmt.Errorf("%s: %w: %w", p.name, errPeerAway, err)
	}
	return err
}

// errNoOrder says that no order lets the card be issued.
var errNoOrder = errors.New("no open, signed order covers the card")

// signedOrder is an order as posv shows it.
type signedOrder struct {
	ID    string `json:"order_id"`
	State string `json:"state"`
	order.Signed
}

// usable says that the order can be shown to the key service.
func (o signedOrder) usable() bool { return o.State == "signed" && len(o.Document) > 0 }

// findOrder returns the named order, or the first open one that covers the card.
func (a *App) findOrder(ctx context.Context, actor, psamNo, orderID string) (signedOrder, error) {
	if orderID != "" {
		var o signedOrder
		err := a.registry.call(ctx, actor, http.MethodGet, "/v1/orders/"+url.PathEscape(orderID), "", nil, &o)
		var refusal *peerError
		if errors.As(err, &refusal) && refusal.status == http.StatusNotFound || err == nil && !o.usable() {
			return signedOrder{}, fmt.Errorf("card %s: order %s is unknown or not signed: %w", psamNo, orderID, errNoOrder)
		}
		return o, err
	}
	var list struct {
		Items []signedOrder `json:"items"`
	}
	if err := a.registry.call(ctx, actor, http.MethodGet, "/v1/orders?state=signed&psam_no="+url.QueryEscape(psamNo), "", nil, &list); err != nil {
		return signedOrder{}, err
	}
	for _, o := range list.Items {
		if o.usable() {
			return o, nil
		}
	}
	return signedOrder{}, fmt.Errorf("card %s: %w", psamNo, errNoOrder)
}

// register makes the card known to the registry and returns the state that it has there.
func (a *App) register(ctx context.Context, actor, psamNo string) (state string, err error) {
	var card struct {
		State string `json:"state"`
	}
	err = a.registry.call(ctx, actor, http.MethodPost, "/v1/cards", newID(), map[string]string{"psam_no": psamNo}, &card)
	return card.State, err
}

// markPersonalised tells the registry that the card holds its keys.
func (a *App) markPersonalised(ctx context.Context, actor, psamNo, runID string) error {
	return a.registry.call(ctx, actor, http.MethodPost, "/v1/cards/"+psamNo+"/state", newID(),
		map[string]string{"state": "personalised", "reason": "issued in run " + runID}, nil)
}

// cardKeys are the check values of a card's keys.
type cardKeys struct {
	PSAM string    `json:"psam_no"`
	Keys []keyView `json:"keys"`
}

// keyView is a key without its cryptogram, as the key service shows it.
type keyView struct {
	Name      string         `json:"name"`
	Usage     keys.Usage     `json:"usage"`
	Algorithm keys.Algorithm `json:"algorithm"`
	Version   int            `json:"version"`
	KCV       keys.KCV       `json:"kcv"`
	State     keys.State     `json:"state"`
}

// cipher is that of the card's control keys, and so of all keys that scripts write.
func (c cardKeys) cipher() keys.Algorithm {
	for _, k := range c.Keys {
		if k.Usage == keys.CardControl {
			return k.Algorithm
		}
	}
	return keys.TDES
}

// find gives the check value of the active key with this name, usage and cipher.
func (c cardKeys) find(name string, usage keys.Usage, cipher keys.Algorithm) (keys.KCV, error) {
	for _, k := range c.Keys {
		if k.Name == name && k.Usage == usage && k.Algorithm == cipher && k.State.Usable() && k.KCV != "" {
			return k.KCV, nil
		}
	}
	return "", fmt.Errorf("key service: %w: no active key %s (%s) in its answer", errPeerAway, name, usage)
}

// derive has the card's keys derived. The key service finds what it has done before by itself, so each call may have a new key.
func (a *App) derive(ctx context.Context, actor, psamNo string, o signedOrder) (c cardKeys, err error) {
	err = a.posp.call(ctx, actor, http.MethodPost, "/v1/cards", newID(), map[string]any{"psam_no": psamNo, "order": o.Signed}, &c)
	return c, err
}

// script has the command made that writes one key.
func (a *App) script(actor, psamNo string, o signedOrder) scripter {
	return func(ctx context.Context, step, challenge string) ([]byte, error) {
		var out struct {
			APDU string `json:"apdu"`
		}
		err := a.posp.call(ctx, actor, http.MethodPost, "/v1/cards/"+psamNo+"/scripts", "", map[string]any{"order": o.Signed, "step": step, "challenge": challenge}, &out)
		if err != nil {
			return nil, err
		}
		apdu, err := hex.DecodeString(out.APDU)
		if err != nil || len(apdu) == 0 {
			return nil, fmt.Errorf("key service: %w: its script is not hex", errPeerAway)
		}
		return apdu, nil
	}
}
