package hsmclient

import (
	"context"
	"crypto/tls"
	"net"
	"strconv"
	"time"

	"github.com/keyward/keyward/internal/link"
)

const (
	// maxFrame is the longest frame on a channel: the longest data field that drivers write, twice for hex, stays below the
	// devices' buffer of 32K (facts/hsm.md §1.1).
	maxFrame = 32 * 1024
	// connectTimeout bounds dialling, handshake and diagnosis: after this time the vendor wants an alarm (facts/hsm.md §1.1).
	connectTimeout = 5 * time.Second
	// maxBackoff is the longest pause between attempts: a mended device is back within it.
	maxBackoff = 5 * time.Second
)

// member is one device with its channels.
type member struct {
	cfg      Member
	channels []*channel
	usable   int   // number of usable channels; guarded by Client.mu
	lastErr  error // why a channel is not usable; guarded by Client.mu
}

func (c *Client) newMember(cfg Member) (*member, error) {
	m := &member{cfg: cfg}
	c.metrics.addMember(cfg.Name)
	for i := range cfg.Channels {
		ch := &channel{client: c, member: m}
		var err error
		ch.link, err = link.NewClient(link.ClientConfig[label]{
			Name:        c.cfg.Name + "-" + cfg.Name + "-" + strconv.Itoa(i+1),
			Dial:        ch.dial,
			MaxFrame:    maxFrame,
			MaxInFlight: cfg.MaxInFlight,
			Key:         ch.labelOf,
			OnConnect: func(ctx context.Context, s *link.Session[label]) error {
				return c.admit(ctx, m, conversation{ch: ch, via: s})
			},
			OnState: ch.onState,
			Poison:  true,
			KeepAlive: link.KeepAlive[label]{
				Every: c.cfg.ProbeEvery, Timeout: c.cfg.Timeout,
				Ask: func(ctx context.Context, s *link.Session[label]) error {
					return c.admit(ctx, m, conversation{ch: ch, via: s})
				},
			},
			Backoff:        link.Backoff{Max: maxBackoff},
			ConnectTimeout: connectTimeout,
			FrameTimeout:   c.cfg.Timeout,
			WriteTimeout:   c.cfg.Timeout,
			Log:            c.cfg.Log,
			Registerer:     c.cfg.Registerer,
		})
		if err != nil {
			return nil, err
		}
		m.channels = append(m.channels, ch)
	}
	return m, nil
}

// dial connects and keeps hold of the connection, so that poison can close it.
func (ch *channel) dial(ctx context.Context) (net.Conn, error) {
	nc, err := ch.dialMember(ctx)
	if err != nil {
		ch.client.noteFailure(ch.member, err)
		return nil, err
	}
	ch.conn.Store(&nc)
	return nc, nil
}

func (ch *channel) dialMember(ctx context.Context) (net.Conn, error) {
	cfg := ch.member.cfg
	if cfg.TLS == nil {
		return new(net.Dialer).DialContext(ctx, "tcp", cfg.Addr)
	}
	return (&tls.Dialer{Config: cfg.TLS}).DialContext(ctx, "tcp", cfg.Addr)
}
