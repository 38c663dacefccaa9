package posp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/internal/link"
	"github.com/keyward/keyward/internal/posp/access"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/iso/unionpay"
)

// TerminalListener is one listener for POS terminals and concentrators (docs/configuration.md). Without TLS it must be declared
// private in a production profile.
type TerminalListener struct {
	Addr    string `yaml:"addr"`
	Private bool   `yaml:"private"` // the line is protected otherwise
	// PrivateBy names the two people, at least, who declared so. In a production profile terminals whose MAC can be forged on the line need
	// it, or TLS (docs/security.md).
	PrivateBy []string     `yaml:"private_by"`
	TLS       *TerminalTLS `yaml:"tls,omitempty"`
	Limits    AccessLimits `yaml:"limits"`
}

// TerminalTLS is TLS 1.3 on a listener for terminals.
type TerminalTLS struct {
	Cert string             `yaml:"cert"`
	Key  service.SecretFile `yaml:"key"`
	CA   string             `yaml:"ca"` // the authorities of the terminals' certificates: none that signs anything else
	// ClientCertificate says whether terminals must have a certificate; empty: required.
	ClientCertificate access.Clients `yaml:"client_certificate"`
	// BindTerminal refuses a message of a terminal whose number is not the common name of the connection's certificate.
	BindTerminal bool `yaml:"bind_terminal"`
	// Concentrators are the common names of those that carry the messages of many terminals.
	Concentrators []string `yaml:"concentrators"`
	// Revoked are files with revocation lists.
	Revoked []string `yaml:"revoked"`
}

// AccessLimits bound what terminals and strangers can take of a listener. What is 0 has its default.
type AccessLimits struct {
	MaxConnections           int `yaml:"max_connections"`
	MaxConnectionsPerAddress int `yaml:"max_connections_per_address"`
	MaxInFlight              int `yaml:"max_in_flight"` // messages under way on one connection
	MaxMessage               int `yaml:"max_message"`   // bytes
	// IdleTimeout closes a connection without a message, MessageTimeout one whose message, or TLS handshake, does not come to its end,
	// WriteTimeout one whose terminal does not take its answer.
	IdleTimeout    service.Duration `yaml:"idle_timeout"`
	MessageTimeout service.Duration `yaml:"message_timeout"`
	WriteTimeout   service.Duration `yaml:"write_timeout"`
	KeepAlive      service.Duration `yaml:"keep_alive"` // silence after which TCP probes begin
}

// Defaults of AccessLimits. The idle time-out is longer than a terminal's echo interval, and below what firewalls as a rule forget.
const (
	defaultConnections           = 25_000
	defaultConnectionsPerAddress = 1_000
	defaultInFlight              = 64
	defaultIdle                  = 10 * time.Minute
	defaultMessageTime           = 10 * time.Second
	defaultWriteTime             = 10 * time.Second
	defaultKeepAlive             = time.Minute
	// minMessage is shorter than any message: a smaller limit would refuse everything.
	minMessage = 64
)

// complete gives the limits with their defaults.
func (l AccessLimits) complete() AccessLimits {
	standard(&l.MaxConnections, defaultConnections)
	standard(&l.MaxConnectionsPerAddress, min(defaultConnectionsPerAddress, max(l.MaxConnections, 1)))
	standard(&l.MaxInFlight, defaultInFlight)
	standard(&l.MaxMessage, unionpay.MaxFrame)
	standard(&l.IdleTimeout, service.Duration(defaultIdle))
	standard(&l.MessageTimeout, service.Duration(defaultMessageTime))
	standard(&l.WriteTimeout, service.Duration(defaultWriteTime))
	standard(&l.KeepAlive, service.Duration(defaultKeepAlive))
	return l
}

// standard fills in what was left out.
func standard[T int | service.Duration](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

// check refuses settings that contradict each other or would refuse everything.
func (t TerminalListener) check(where string) error {
	var errs []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(where+format, args...))
		}
	}
	need(t.Addr != "", ".addr: give an address, for example 0.0.0.0:7001")
	need(len(t.PrivateBy) == 0 || t.Private && t.declaredByTwo(), ".private_by: it takes private: true and the names of two different people")
	l := t.Limits.complete()
	need(l.MaxConnections > 0 && l.MaxConnectionsPerAddress > 0 && l.MaxInFlight > 0, ".limits: numbers must not be below zero")
	need(l.MaxConnectionsPerAddress <= l.MaxConnections, ".limits.max_connections_per_address is %d, above max_connections (%d): it would bound nothing", l.MaxConnectionsPerAddress, l.MaxConnections)
	need(l.MaxMessage >= minMessage && l.MaxMessage <= unionpay.MaxFrame, ".limits.max_message is %d: it must be %d to %d bytes", l.MaxMessage, minMessage, unionpay.MaxFrame)
	need(l.IdleTimeout > l.MessageTimeout, ".limits.idle_timeout is %s: it must be longer than message_timeout (%s)", l.IdleTimeout, l.MessageTimeout)
	if t.TLS != nil && t.TLS.ClientCertificate == access.None {
		need(!t.TLS.BindTerminal && len(t.TLS.Concentrators)+len(t.TLS.Revoked) == 0,
			".tls: bind_terminal, concentrators and revoked need client certificates: set client_certificate to required or optional")
	}
	return errors.Join(errs...)
}

// declaredByTwo says that two different people stand for the line.
func (t TerminalListener) declaredByTwo() bool {
	var people []string
	for _, name := range t.PrivateBy {
		if name = strings.ToLower(strings.TrimSpace(name)); name != "" && !slices.Contains(people, name) {
			people = append(people, name)
		}
	}
	return len(people) >= 2
}

// CheckPlain refuses a plain listener that nobody declared private, in the production profile only.
func (t TerminalListener) CheckPlain(profile service.Profile, what string) error {
	l := service.ListenerConfig{Addr: t.Addr, Private: t.Private}
	if t.TLS != nil {
		l.TLS = &service.TLSConfig{}
	}
	return l.CheckPlain(profile, what)
}

// gate reads what TLS needs; nil for a plain listener.
func (t TerminalListener) gate(a *App) (*access.Gate, error) {
	if t.TLS == nil {
		return nil, nil //nolint:nilnil // A plain listener has no gate.
	}
	return access.New(access.Config{
		Cert: t.TLS.Cert, Key: string(t.TLS.Key), CA: t.TLS.CA, Ask: t.TLS.ClientCertificate, Bind: t.TLS.BindTerminal,
		Concentrators: t.TLS.Concentrators, Revoked: t.TLS.Revoked, Log: a.opt.Log.With("listener", t.Addr), Now: a.opt.Now,
	})
}

func (a *App) startTerminals(ctx context.Context) error {
	for i, l := range a.opt.Config.Terminals {
		gate, err := l.gate(a)
		if err != nil {
			return fmt.Errorf("terminal listener %s: %w", l.Addr, err)
		}
		limits := l.Limits.complete()
		cfg := link.ServerConfig{
			Name: fmt.Sprintf("terminals-%d", i+1), Addr: l.Addr, Log: a.opt.Log, Registerer: a.opt.Registry,
			MaxFrame: limits.MaxMessage, MaxConnections: limits.MaxConnections, MaxConnectionsPerAddr: limits.MaxConnectionsPerAddress,
			MaxInFlightPerConn: limits.MaxInFlight, IdleTimeout: limits.IdleTimeout.Std(), FrameTimeout: limits.MessageTimeout.Std(),
			WriteTimeout: limits.WriteTimeout.Std(), KeepAlive: limits.KeepAlive.Std(),
			OnBadFrame: func(link.Reason) { a.flow.metrics.framing.Inc() },
			Handler: func(ctx context.Context, conn *link.Conn, frame []byte) {
				a.flow.handle(ctx, conn, origin{conn: conn, gate: gate, private: l.Private && l.declaredByTwo()}, frame)
			},
		}
		if gate != nil {
			cfg.TLS = gate.TLS()
		}
		listener, err := httpapi.Listen(ctx, l.Addr)
		if err != nil {
			return err
		}
		cfg.Listener = listener
		server, err := link.NewServer(cfg)
		if err != nil {
			return errors.Join(err, listener.Close())
		}
		if err := server.Start(ctx); err != nil {
			return err
		}
		a.life.Add("terminals at "+l.Addr, drainTime, server.Stop)
		a.terminals = append(a.terminals, server)
	}
	return nil
}
