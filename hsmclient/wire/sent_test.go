package wire

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyward/keyward/hsmclient/driver"
)

// certificate makes a certificate for 127.0.0.1 and the pool that trusts it.
func certificate(tb testing.TB) (*tls.Config, *x509.CertPool) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "hsm"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		tb.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, pool
}

// TLS: exchanges work, a certificate of somebody else is refused, and a device that says nothing to the handshake ends with ctx.
func TestTLS(t *testing.T) {
	t.Parallel()
	server, pool := certificate(t)
	d := listen(t, server, (*session).healthy)
	c := dialTo(t, d, normal, 8, func(to *driver.Target) { to.TLS = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool} })
	var callers sync.WaitGroup
	for i := range 16 {
		callers.Go(func() {
			for n := range 20 {
				text := fmt.Sprintf("B2%d-%d", i, n)
				if got, err := c.Exchange(t.Context(), []byte(text)); err != nil || string(got) != "B300"+text[2:] {
					t.Errorf("%s: %q, %v", text, got, err)
				}
			}
		})
	}
	callers.Wait()
	for name, trust := range map[string]*tls.Config{
		"nobody trusted": {MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()},
		"another name":   {MinVersion: tls.VersionTLS12, RootCAs: pool, ServerName: "bank.example"},
	} {
		if _, err := Open(t.Context(), normal, driver.Target{Name: "hsm1", Addr: d.addr, Depth: 8, TLS: trust}); err == nil || !strings.Contains(err.Error(), "TLS handshake") {
			t.Errorf("%s: %v", name, err)
		}
	}
	silent := listen(t, nil, func(s *session) { _, _ = io.Copy(io.Discard, s) })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, normal, driver.Target{Name: "hsm1", Addr: silent.addr, Depth: 8, TLS: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}}); err == nil {
		t.Error("a silent device was opened")
	}
}

// What is said not to be sent was never seen by the device, not even its first byte: a device stops reading, requests pile up in the
// sockets and behind them, some are given up, the channel ends, and then the device looks at all that came.
func TestNotSentIsExact(t *testing.T) {
	t.Parallel()
	server, pool := certificate(t)
	for name, secure := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var with *tls.Config
			look, saw := make(chan struct{}), make(chan map[string]bool, 1)
			if secure {
				with = server
			}
			d := listen(t, with, func(s *session) {
				s.prove()
				<-look
				saw <- s.everything()
			})
			const requests, size = 500, 30_000 // more than the sockets hold
			c := dialTo(t, d, normal, requests, func(to *driver.Target) {
				if secure {
					to.TLS = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
				}
			})
			givenUp, giveUp := context.WithCancel(t.Context())
			var callers sync.WaitGroup
			var mu sync.Mutex
			notSent := map[string]bool{}
			for i := range requests {
				callers.Go(func() {
					ctx := t.Context()
					if i%3 == 0 {
						ctx = givenUp
					}
					id := fmt.Sprintf("B2%06d", i)
					_, err := c.Exchange(ctx, []byte(id+strings.Repeat("x", size)))
					if err == nil {
						t.Errorf("%s was answered", id)
					}
					if driver.NotSent(err) {
						mu.Lock()
						notSent[id] = true
						mu.Unlock()
					}
				})
			}
			for queued(c) < requests/2 {
				time.Sleep(time.Millisecond) // until the sockets are full, which no event tells
			}
			giveUp()
			for len(c.places) > requests-requests/3+1 {
				time.Sleep(time.Millisecond)
			}
			c.Close(nil)
			callers.Wait()
			close(look)
			seen := <-saw
			if len(notSent) == 0 || len(notSent) == requests {
				t.Errorf("%d of %d were not sent", len(notSent), requests)
			}
			for id := range seen {
				if notSent[id] {
					t.Errorf("%s is said not to be sent, but the device saw it", id)
				}
			}
			t.Logf("%d not sent, the device saw %d of %d", len(notSent), len(seen), requests)
		})
	}
}

// queued is how many requests wait for the writer.
func queued(c *Channel) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, own := range c.pending {
		if own.start >= c.taken {
			n++
		}
	}
	return n
}

// everything reads to the end and tells which requests came, whole or in part.
func (s *session) everything() map[string]bool {
	seen := map[string]bool{}
	for {
		var length [2]byte
		if _, err := io.ReadFull(s.r, length[:]); err != nil {
			return seen
		}
		frame := make([]byte, binary.BigEndian.Uint16(length[:]))
		n, err := io.ReadFull(s.r, frame)
		if n >= 12 {
			seen[string(frame[4:12])] = true
		}
		if err != nil {
			return seen
		}
	}
}

// An answer to a request that has not gone out yet is no answer: it poisons.
func TestAnswerBeforeRequest(t *testing.T) {
	t.Parallel()
	guess := make(chan uint64)
	d := listen(t, nil, func(s *session) {
		s.prove()
		serial := <-guess
		h := newHeader(4)
		s.put(appendTrailer(append(h.append(nil, serial), "B300"...), serial))
		<-guess
	})
	const requests = 500
	c := dialTo(t, d, normal, requests)
	var callers sync.WaitGroup
	for range requests {
		callers.Go(func() {
			if got, err := c.Exchange(t.Context(), append([]byte("B2"), make([]byte, 30_000)...)); err == nil {
				t.Errorf("answered with %q", got)
			}
		})
	}
	for queued(c) < requests/2 {
		time.Sleep(time.Millisecond) // until the sockets are full, which no event tells
	}
	c.mu.Lock()
	last := c.serial
	c.mu.Unlock()
	guess <- last
	callers.Wait()
	close(guess)
	ended(t, c)
	if !c.Poisoned() || !errors.Is(c.Cause(), errStray) {
		t.Errorf("poisoned %v, cause %v", c.Poisoned(), c.Cause())
	}
}
