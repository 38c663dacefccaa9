package link_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyward/keyward/internal/link"
)

// counted reads one counter with a label value.
func counted(t testing.TB, reg *prometheus.Registry, name, value string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetValue() == value {
					return m.GetCounter().GetValue()
				}
			}
		}
	}
	t.Fatalf("no counter %s with the label %s", name, value)
	return 0
}

// until polls a condition that has no signal of its own.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func dialFrom(t testing.TB, s *link.Server, ip string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	c, err := d.DialContext(within(t), "tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func served(t testing.TB, c net.Conn) bool {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte{0, 1, 'x'}); err != nil {
		return false
	}
	_, err := tryReadFrame(c)
	return err == nil
}

func TestServerBoundsConnectionsPerAddress(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	s := startServer(t, link.ServerConfig{MaxConnectionsPerAddr: 2, Handler: echo, Registerer: reg})
	first, second := dialFrom(t, s, "127.0.0.1"), dialFrom(t, s, "127.0.0.1")
	if !served(t, first) || !served(t, second) {
		t.Fatal("connections within the bound are not served")
	}
	if served(t, dialFrom(t, s, "127.0.0.1")) {
		t.Fatal("a third connection of one address is served")
	}
	if n := counted(t, reg, "keyward_link_server_connections_refused_total", "address"); n != 1 {
		t.Fatalf("%v refusals counted", n)
	}
	if !served(t, dialFrom(t, s, "127.0.0.2")) {
		t.Fatal("another address is refused too")
	}
	_ = first.Close()
	until(t, "the place of the closed connection", func() bool { return served(t, dialFrom(t, s, "127.0.0.1")) })
	if !served(t, second) {
		t.Fatal("a connection within the bound was lost")
	}
}

func TestServerCountsTotalRefusals(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	s := startServer(t, link.ServerConfig{MaxConnections: 1, MaxConnectionsPerAddr: 5, Handler: echo, Registerer: reg})
	first := dialFrom(t, s, "127.0.0.1")
	if !served(t, first) || served(t, dialFrom(t, s, "127.0.0.3")) {
		t.Fatal("the bound in all does not hold")
	}
	if n := counted(t, reg, "keyward_link_server_connections_refused_total", "total"); n != 1 {
		t.Fatalf("%v refusals counted", n)
	}
}

func TestServerCountsIdleConnections(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	s := startServer(t, link.ServerConfig{IdleTimeout: 20 * time.Millisecond, Handler: echo, Registerer: reg})
	wantClosed(t, dial(t, s))
	until(t, "the count", func() bool { return counted(t, reg, "keyward_link_server_connections_ended_total", "idle") == 1 })
}

// TestSlowReader: a peer that does not take its answers costs one write time-out and its connection, nothing else.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	answer := bytes.Repeat([]byte{'x'}, 60_000)
	failed := make(chan error, 1)
	s := startServer(t, link.ServerConfig{
		MaxFrame: 65_535, WriteTimeout: 50 * time.Millisecond, Registerer: reg,
		Handler: func(ctx context.Context, c *link.Conn, f []byte) {
			if f[0] != '!' {
				echo(ctx, c, f)
				return
			}
			for {
				if err := c.Write(ctx, answer); err != nil {
					failed <- err
					return
				}
			}
		},
	})
	slow, other := dial(t, s), dial(t, s)
	writeFrame(t, slow, []byte("!"))
	if !served(t, other) {
		t.Fatal("another connection is held up")
	}
	select {
	case err := <-failed:
		if link.OutcomeOf(err) != link.Unknown && !strings.Contains(err.Error(), "timeout") {
			t.Fatalf("write ended with %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the write to a peer that does not read has no end")
	}
	if n := counted(t, reg, "keyward_link_server_connections_ended_total", "slow_reader"); n != 1 {
		t.Fatalf("%v slow readers counted", n)
	}
}

// watched is a listener whose connections come out of accepted, and whose reads can be made to fail as a lost line does.
type watched struct {
	net.Listener
	accepted chan *net.TCPConn
	lose     bool
}

func (w *watched) Accept() (net.Conn, error) {
	c, err := w.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tcp := c.(*net.TCPConn)
	w.accepted <- tcp
	if w.lose {
		return lostConn{tcp}, nil
	}
	return tcp, nil
}

// lostConn says what the kernel says when keep-alive probes stay unanswered.
type lostConn struct{ *net.TCPConn }

func (c lostConn) Read([]byte) (int, error) {
	return 0, &net.OpError{Op: "read", Net: "tcp", Err: syscall.ETIMEDOUT}
}

func watch(t testing.TB, lose bool) *watched {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return &watched{Listener: l, accepted: make(chan *net.TCPConn, 1), lose: lose}
}

func TestLostPeerIsCounted(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	s := startServer(t, link.ServerConfig{Listener: watch(t, true), Handler: echo, Registerer: reg})
	wantClosed(t, dial(t, s))
	until(t, "the count", func() bool { return counted(t, reg, "keyward_link_server_connections_ended_total", "lost") == 1 })
}

// TestHandshakeTellsTheSide: both ends learn whose certificate is refused, and why.
func TestHandshakeTellsTheSide(t *testing.T) {
	t.Parallel()
	cert, pool := selfSigned(t)
	foreign, _ := selfSigned(t)
	for name, tc := range map[string]struct {
		client *tls.Config
		side   string
		log    string
		other  string // what the other end hears
	}{
		"none":    {&tls.Config{RootCAs: pool}, "peer", "it has none", "certificate required"},
		"foreign": {&tls.Config{RootCAs: pool, Certificates: []tls.Certificate{foreign}}, "peer", "authority that this listener does not accept", "unknown certificate authority"},
		"distrust": {
			&tls.Config{RootCAs: x509.NewCertPool(), Certificates: []tls.Certificate{cert}}, "ours", "the peer refuses our certificate", "unknown authority",
		},
		"old protocol": {
			&tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}, MaxVersion: tls.VersionTLS12}, "other", "no TLS connection", "protocol version",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log syncBuffer
			reg := prometheus.NewRegistry()
			s := startServer(t, link.ServerConfig{
				Handler: echo, Registerer: reg, Log: slog.New(slog.NewTextHandler(&log, nil)),
				TLS: &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13},
			})
			tc.client.ServerName = "127.0.0.1"
			c := tls.Client(dial(t, s), tc.client)
			err := c.HandshakeContext(within(t))
			if err == nil { // under TLS 1.3 the client hears of a refusal with its first read
				_ = c.SetReadDeadline(time.Now().Add(patience))
				_, err = io.ReadFull(c, make([]byte, 1))
			}
			if err == nil || !strings.Contains(err.Error(), tc.other) {
				t.Errorf("the client hears %v, want %s", err, tc.other)
			}
			until(t, "the count", func() bool {
				return counted(t, reg, "keyward_link_server_handshake_errors_total", tc.side) == 1
			})
			if !strings.Contains(log.String(), tc.log) || !strings.Contains(log.String(), "side="+tc.side) {
				t.Errorf("the log lacks %q: %s", tc.log, log.String())
			}
		})
	}
}

func TestExpiredCertificateIsNamed(t *testing.T) {
	t.Parallel()
	cert, pool := selfSigned(t)
	var log syncBuffer
	s := startServer(t, link.ServerConfig{
		Handler: echo, Log: slog.New(slog.NewTextHandler(&log, nil)),
		TLS: &tls.Config{
			Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
			Time: func() time.Time { return time.Now().Add(48 * time.Hour) },
		},
	})
	c := tls.Client(dial(t, s), &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}, ServerName: "127.0.0.1"})
	_ = c.SetDeadline(time.Now().Add(patience))
	_ = c.HandshakeContext(within(t))
	if _, err := c.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "expired certificate") {
		t.Errorf("the client hears %v", err)
	}
	until(t, "the log", func() bool { return strings.Contains(log.String(), "only: renew it") })
}
