// Package accesstest makes authorities, certificates and revocation lists for tests of TLS listeners.
package accesstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority signs certificates. Its files are in a directory of the test.
type Authority struct {
	Dir     string
	CA      string // file of its certificate, PEM
	Revoked string // file of its revocation list, PEM
	t       testing.TB
	cert    *x509.Certificate
	key     *ecdsa.PrivateKey
	serial  int64
}

// New makes an authority with an empty revocation list.
func New(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{Dir: t.TempDir(), t: t}
	a.CA, a.Revoked = filepath.Join(a.Dir, "ca.crt"), filepath.Join(a.Dir, "revoked.crl")
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	a.key = a.newKey()
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	a.must(err)
	a.cert, err = x509.ParseCertificate(der)
	a.must(err)
	a.write(a.CA, "CERTIFICATE", der)
	a.Revoke()
	return a
}

// Issue signs a certificate for a common name, good from an hour ago for life, and writes NAME.crt and NAME.key. It serves 127.0.0.1
// and identifies a client.
func (a *Authority) Issue(name string, life time.Duration) *x509.Certificate {
	a.t.Helper()
	a.serial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	key := a.newKey()
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	a.must(err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	a.must(err)
	cert, keyFile := a.Pair(name)
	a.write(cert, "CERTIFICATE", der)
	a.write(keyFile, "PRIVATE KEY", pkcs8)
	parsed, err := x509.ParseCertificate(der)
	a.must(err)
	return parsed
}

// Pair names the files of a common name.
func (a *Authority) Pair(name string) (cert, key string) {
	return filepath.Join(a.Dir, name+".crt"), filepath.Join(a.Dir, name+".key")
}

// Revoke writes a revocation list with these certificates and no others.
func (a *Authority) Revoke(certs ...*x509.Certificate) {
	a.t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(time.Now().UnixNano()), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
	for _, c := range certs {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	a.must(err)
	a.write(a.Revoked, "X509 CRL", der)
}

func (a *Authority) newKey() *ecdsa.PrivateKey {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	a.must(err)
	return key
}

func (a *Authority) write(path, kind string, der []byte) {
	a.t.Helper()
	a.must(os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

func (a *Authority) must(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}
