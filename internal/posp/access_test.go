package posp_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/internal/posp"
	"github.com/keyward/keyward/internal/posp/access/accesstest"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/iso"
	"github.com/keyward/keyward/iso/unionpay"
	"github.com/keyward/keyward/sim/pos"
)

// counter is the sum of a family of posp's metrics.
func counter(t testing.TB, reg *prometheus.Registry, name string) (sum float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
			return sum
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// secure is a system with a TLS listener beside the plain one.
func secure(t *testing.T) (*system, *accesstest.Authority) {
	t.Helper()
	a := accesstest.New(t)
	a.Issue("listener", time.Hour)
	cert, key := a.Pair("listener")
	s := newSystem(t, func(c *posp.Config) {
		c.Flow.AllowCallerID = true
		c.Terminals = append(c.Terminals, posp.TerminalListener{Addr: "127.0.0.1:" + freePort(t), TLS: &posp.TerminalTLS{
			Cert: cert, Key: service.SecretFile(key), CA: a.CA, BindTerminal: true, Concentrators: []string{"conc-1"}, Revoked: []string{a.Revoked},
		}})
	})
	return s, a
}

// overTLS is a terminal that has its certificate from dir and trusts ca.
func (s *system) overTLS(n int, ca, dir string) *pos.Terminal {
	return s.terminal(n, func(c *pos.Config) {
		c.TLS, c.KeepOpen = pos.TLSLine{Addr: s.cfg.Terminals[1].Addr, CA: ca, Dir: dir}, true
	})
}

// TestTLSTerminal: the whole way over TLS, and back to the plain line; then the certificate is revoked while the connection stands.
func TestTLSTerminal(t *testing.T) {
	t.Parallel()
	s, a := secure(t)
	own := a.Issue("10000001", time.Hour)
	term := s.overTLS(1, a.CA, a.Dir)
	tlsCtx := pos.OverTLS(t.Context())
	if r := term.SignOn(tlsCtx); r.Code != "00" {
		t.Fatalf("sign-on: %s %s", r.Code, r.Error)
	}
	sale := pos.Sale{AmountFen: 100, PAN: card1, PIN: pin1, Entry: pos.EntrySwipe}
	if r := term.Purchase(tlsCtx, sale); r.Code != "00" {
		t.Fatalf("purchase: %s %s", r.Code, r.Error)
	}
	if r := term.Purchase(t.Context(), sale); r.Code != "00" {
		t.Fatalf("purchase over the plain line: %s %s", r.Code, r.Error)
	}
	if r := term.Purchase(tlsCtx, sale); r.Code != "00" {
		t.Fatalf("purchase over TLS again: %s %s", r.Code, r.Error)
	}
	a.Revoke(own)
	later := time.Now().Add(time.Minute)
	s.must(os.Chtimes(a.Revoked, later, later))
	s.skew.Store(int64(15 * time.Second))
	before := s.balance()
	if r := term.Purchase(tlsCtx, sale); r.Code == "00" || s.balance() != before {
		t.Fatalf("purchase with a revoked certificate: %s, %d booked", r.Code, before-s.balance())
	}
	if n := counter(t, s.reg, "posp_certificates_ended_total"); n != 1 {
		t.Errorf("%v connections counted", n)
	}
	// The next connection is refused in the handshake.
	if r := term.Echo(tlsCtx); r.Outcome == pos.OutcomeApproved || !strings.Contains(r.Error, "posp refuses the terminal's certificate") {
		t.Errorf("a new connection: %+v", r)
	}
}

// TestCertificatesRefused: each bad certificate is refused with an error that tells which side failed; nothing is sent, so nothing is in
// doubt.
func TestCertificatesRefused(t *testing.T) {
	t.Parallel()
	s, a := secure(t)
	foreign := accesstest.New(t)
	foreign.Issue("10000001", time.Hour)
	a.Issue("10000001", -time.Minute)
	a.Issue("10000002", time.Hour)
	a.Issue("10000003", time.Hour)
	revoked := accesstest.New(t).Dir
	copyPair(t, a, "10000003", revoked, "10000003")
	a.Revoke(certificate(t, filepath.Join(revoked, "10000003.crt")))
	later := time.Now().Add(time.Minute)
	s.must(os.Chtimes(a.Revoked, later, later))
	s.skew.Store(int64(15 * time.Second))
	other := t.TempDir()
	copyPair(t, a, "10000002", other, "10000001")

	for name, tc := range map[string]struct {
		terminal int
		ca, dir  string
		want     string
	}{
		"expired":             {1, a.CA, a.Dir, "posp refuses the terminal's certificate: tls: expired certificate"},
		"foreign":             {1, a.CA, foreign.Dir, "posp refuses the terminal's certificate: tls: unknown certificate authority"},
		"revoked":             {3, a.CA, revoked, "posp refuses the terminal's certificate"},
		"posp's is foreign":   {2, foreign.CA, a.Dir, "the terminal refuses posp's certificate"},
		"terminal has no own": {2, a.CA, foreign.Dir, "has no certificate that can be used"},
	} {
		r := s.overTLS(tc.terminal, tc.ca, tc.dir).SignOn(pos.OverTLS(t.Context()))
		if r.Outcome != pos.OutcomeFailed || !strings.Contains(r.Error, tc.want) || !strings.Contains(r.Error, "not sent") || r.PendingReversal {
			t.Errorf("%s: %s %q, want %q in it", name, r.Outcome, r.Error, tc.want)
		}
	}
	if r := s.overTLS(1, a.CA, other).SignOn(pos.OverTLS(t.Context())); r.Code != "58" {
		t.Errorf("with another terminal's certificate: %s %s, want 58", r.Code, r.Error)
	}
	if n := counter(t, s.reg, "posp_foreign_terminals_total"); n != 1 {
		t.Errorf("%v foreign terminals counted", n)
	}
	// Whoever speaks plain on the TLS port is not listened to, and the plain port goes on.
	w := s.wire(t, 2)
	w.addr = s.cfg.Terminals[1].Addr
	w.send(w.plain(w.signOnPacket("003")))
	_, _ = w.read() // an alert or nothing
	s.wire(t, 2).signOn("003")
}

func copyPair(t testing.TB, a *accesstest.Authority, from, dir, to string) {
	t.Helper()
	cert, key := a.Pair(from)
	for source, ext := range map[string]string{cert: ".crt", key: ".key"} {
		raw, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, to+ext), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func certificate(t testing.TB, path string) *x509.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(path, strings.TrimSuffix(path, ".crt")+".key")
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf
}

// withCaller puts the caller-id block of a dial-up network controller between TPDU and header.
func withCaller(frame []byte) []byte {
	block := fmt.Sprintf("LRI\x00\x1C%-28s", "02161234567")
	return append(append(append([]byte(nil), frame[:5]...), block...), frame[5:]...)
}

// TestConcentrator: one connection carries the messages of several terminals, with and without the caller-id block, many under way at
// once; over the plain listener, and over TLS with the concentrator's certificate.
func TestConcentrator(t *testing.T) {
	t.Parallel()
	s, a := secure(t)
	a.Issue("conc-1", time.Hour)
	cert, key := a.Pair("conc-1")
	pair, err := tls.LoadX509KeyPair(cert, key)
	s.must(err)
	pool := x509.NewCertPool()
	raw, err := os.ReadFile(a.CA)
	s.must(err)
	pool.AppendCertsFromPEM(raw)
	plain, err := net.Dial("tcp", s.cfg.Terminals[0].Addr)
	s.must(err)
	secured, err := tls.Dial("tcp", s.cfg.Terminals[1].Addr, &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13})
	s.must(err)
	for i, conn := range []net.Conn{plain, secured} {
		t.Run([]string{"plain", "TLS"}[i], func(t *testing.T) {
			defer func() { _ = conn.Close() }()
			terminals := map[string]*wire{}
			for n := 1; n <= 3; n++ {
				w := s.wire(t, n)
				w.conn, w.trace = conn, 100*i // the traces of the first round must not come again
				frame := w.plain(w.signOnPacket("003"))
				if n != 2 {
					frame = withCaller(frame)
				}
				answer := w.ask(frame)
				wantCode(t, answer, "00")
				w.adopt(answer)
				terminals[w.terminal] = w
			}
			before, sent := s.balance(), 0
			for round := range 4 {
				for _, w := range terminals {
					frame := w.signed(w.sale(1, nil))
					if (round+w.trace)%2 == 0 {
						frame = withCaller(frame)
					}
					w.send(frame)
					sent++
				}
			}
			for range sent {
				answer, err := terminals["10000001"].read()
				if err != nil {
					t.Fatal(err)
				}
				wantApproval(t, terminals, answer)
			}
			if got := before - s.balance(); got != int64(sent) {
				t.Errorf("%d booked, want %d", got, sent)
			}
		})
	}
}

// wantApproval finds the terminal that an answer is for.
func wantApproval(t *testing.T, terminals map[string]*wire, raw []byte) {
	t.Helper()
	p, err := unionpay.Parse(raw, unionpay.AllowCallerID)
	if err != nil {
		t.Fatal(err)
	}
	if terminals[p.Message.Text(iso.Terminal)] == nil || len(p.CallerID) > 0 {
		t.Fatalf("an answer for nobody, or with a caller-id block: %v", p.Message)
	}
	wantCode(t, p, "00")
}

// TestMessageRate: a terminal that sends too much is answered 96; its reversals, other terminals and the same terminal from elsewhere go
// on.
func TestMessageRate(t *testing.T) {
	t.Parallel()
	s := newSystem(t, func(c *posp.Config) { c.Flow.MessagesPerSecond = 1 })
	w := s.wire(t, 1)
	w.signOn("003")
	sale := w.sale(1, nil)
	wantCode(t, w.ask(w.signed(sale)), "00")
	limited := false
	for range 100 {
		p := w.packet("0820", map[int]string{iso.Private60: "00" + w.batch + "301"})
		if w.ask(w.plain(p)).Message.Text(iso.ResponseCode) == "96" {
			limited = true
			break
		}
	}
	if !limited {
		t.Fatal("no message is one too many")
	}
	if n := counter(t, s.reg, "posp_rate_limited_total"); n != 1 {
		t.Errorf("%v messages counted", n)
	}
	w.trace = 2
	wantCode(t, w.ask(w.signed(w.undo(sale, map[int]string{iso.Trace: sale.Message.Text(iso.Trace)}))), "00")
	s.wire(t, 2).signOn("003")
	elsewhere := w.other()
	conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}).Dial("tcp", w.addr)
	s.must(err)
	elsewhere.conn = conn
	wantCode(t, elsewhere.ask(elsewhere.plain(elsewhere.packet("0820", map[int]string{iso.Private60: "00" + w.batch + "301"}))), "00")
}

// TestListenerLimits: what the configuration says of a listener counts on its sockets.
func TestListenerLimits(t *testing.T) {
	t.Parallel()
	s := newSystem(t, func(c *posp.Config) {
		c.Terminals[0].Limits = posp.AccessLimits{
			MaxConnectionsPerAddress: 1, MaxMessage: 200, IdleTimeout: service.Duration(400 * time.Millisecond), MessageTimeout: service.Duration(200 * time.Millisecond),
		}
	})
	w := s.wire(t, 1)
	w.signOn("003")
	second := s.wire(t, 2)
	second.conn, _ = net.Dial("tcp", second.addr)
	_ = second.conn.SetDeadline(time.Now().Add(patience))
	second.wantClosed()
	_ = w.conn.SetDeadline(time.Now().Add(patience))
	w.wantClosed()                     // idle
	s.await("the place", func() bool { // a longer message than allowed is not read
		w.sendRaw([]byte{0, 201})
		_, err := w.read()
		w.conn = nil
		return err != nil && counter(t, s.reg, "keyward_link_server_bad_frames_total") > 0
	})
	for _, name := range []string{"keyward_link_server_connections_refused_total", "keyward_link_server_connections_ended_total"} {
		if counter(t, s.reg, name) < 1 {
			t.Errorf("%s is 0", name)
		}
	}
}

// heldHSM makes no working key until it is let go.
type heldHSM struct {
	posp.HSM
	begun chan struct{}
	let   chan struct{}
}

func (h heldHSM) MakeWorkKey(ctx context.Context, w command.WorkKey) (command.MadeKey, error) {
	select {
	case h.begun <- struct{}{}:
	default:
	}
	<-h.let
	return h.HSM.MakeWorkKey(ctx, w)
}

// TestSignOnStorm: a hundred and fifty terminals sign on at once and the HSM makes no keys; purchases go on as if nothing were. Then
// every sign-on is answered.
func TestSignOnStorm(t *testing.T) {
	t.Parallel()
	const storm = 150
	s := newSystem(t, nil)
	for n := 4; n < 4+storm; n++ {
		s.enrol(n, "tdes", 8)
	}
	payer := s.wire(t, 1)
	payer.signOn("003")
	s.stopPOSP()
	held := heldHSM{begun: make(chan struct{}, 1), let: make(chan struct{})}
	s.wrapHSM = func(h posp.HSM) posp.HSM { held.HSM = h; return held }
	s.startPOSP()
	payer.conn = nil
	wantCode(t, payer.ask(payer.signed(payer.sale(1, nil))), "00")

	var crowd []*wire
	for n := 4; n < 4+storm; n++ {
		w := s.wire(t, n)
		w.send(w.plain(w.signOnPacket("003")))
		crowd = append(crowd, w)
	}
	<-held.begun
	s.await("the storm", func() bool {
		return counter(t, s.reg, "posp_sign_ons_running")+counter(t, s.reg, "posp_sign_ons_waiting") == storm
	})
	if n := counter(t, s.reg, "posp_sign_ons_waiting"); n < storm-64 {
		t.Errorf("%v wait, %d at most may be under way", n, 64)
	}
	for range 20 {
		began := time.Now()
		wantCode(t, payer.ask(payer.signed(payer.sale(1, nil))), "00")
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("a purchase took %s in the storm", took)
		}
	}
	close(held.let)
	for _, w := range crowd {
		code := w.answer().Message.Text(iso.ResponseCode)
		if code != "00" && code != "96" {
			t.Fatalf("terminal %s: %s", w.terminal, code)
		}
	}
	s.await("the queue to empty", func() bool {
		return counter(t, s.reg, "posp_sign_ons_running")+counter(t, s.reg, "posp_sign_ons_waiting") == 0
	})
}
