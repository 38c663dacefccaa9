package link_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/keyward/keyward/internal/link"
)

// selfSigned makes a certificate for 127.0.0.1 and the pool that trusts it.
func selfSigned(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestTLS(t *testing.T) {
	t.Parallel()
	cert, pool := selfSigned(t)
	states := make(chan bool, 1)
	s := startServer(t, link.ServerConfig{
		TLS: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13},
		Handler: func(ctx context.Context, c *link.Conn, f []byte) {
			state, ok := c.TLS()
			states <- ok && state.HandshakeComplete
			echo(ctx, c, f)
		},
	})
	c := connected(t, newClient(t, link.ClientConfig[[4]byte]{Addr: s.Addr().String(), TLS: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}}))
	long := request(1, string(bytes.Repeat([]byte{'x'}, link.DefaultMaxFrame-4)))
	got, err := c.Exchange(within(t), k4(1), long)
	if err != nil || !bytes.Equal(got, long) {
		t.Fatalf("exchange over TLS: %v", err)
	}
	if !<-states {
		t.Fatal("the handler does not see the TLS state")
	}
	stranger := newClient(t, link.ClientConfig[[4]byte]{Addr: s.Addr().String(), TLS: &tls.Config{RootCAs: x509.NewCertPool()}})
	ctx, cancel := context.WithTimeout(within(t), 100*time.Millisecond)
	defer cancel()
	if err := stranger.Wait(ctx); err == nil {
		t.Fatal("connected to a server that it does not trust")
	}
}

func TestTLSHandshakeIsBounded(t *testing.T) {
	t.Parallel()
	cert, _ := selfSigned(t)
	s := startServer(t, link.ServerConfig{TLS: &tls.Config{Certificates: []tls.Certificate{cert}}, FrameTimeout: 20 * time.Millisecond, Handler: echo})
	wantClosed(t, dial(t, s)) // a peer that never says a word
}

// FuzzServer feeds arbitrary bytes: the server must close or answer whole frames, never panic and never hang.
func FuzzServer(f *testing.F) {
	f.Add([]byte{0, 1, 'x'})
	f.Add([]byte{0, 0})
	f.Add([]byte{0xFF, 0xFF, 1, 2, 3})
	f.Add([]byte{0, 5, 1, 2})
	f.Add([]byte{0, 1, 'a', 0, 2, 'b', 'c', 0})
	s := startServer(f, link.ServerConfig{Handler: echo, MaxFrame: 64, MaxInFlightPerConn: 1})
	f.Fuzz(func(t *testing.T, in []byte) {
		// What a simple reading of the rule expects.
		var want []byte
		rest := in
		clean := true
		for len(rest) > 0 {
			if len(rest) < 2 {
				clean = false
				break
			}
			n := int(binary.BigEndian.Uint16(rest))
			if n == 0 || n > 64 || len(rest) < 2+n {
				clean = false
				break
			}
			want = append(want, rest[:2+n]...)
			rest = rest[2+n:]
		}
		c := dial(t, s)
		defer func() { _ = c.Close() }()
		_, _ = c.Write(in) // the server may have closed already
		_ = c.(*net.TCPConn).CloseWrite()
		_ = c.SetReadDeadline(time.Now().Add(patience))
		var got bytes.Buffer
		_, err := got.ReadFrom(c)
		if clean && (err != nil || len(got.Bytes()) != len(want)) {
			t.Fatalf("%d bytes answered, want %d: %v", got.Len(), len(want), err)
		}
		if got.Len() > len(want) {
			t.Fatalf("%d bytes answered, more than the %d that were whole", got.Len(), len(want))
		}
	})
}
