// Package pki makes the certificates and signing keys of a development system and keeps them across runs: a certificate authority
// (ECDSA P-256), the server certificates of key service and posp, the client certificates of those who may ask them, and the Ed25519 key pair
// that signs issuing orders.
//
// For development only: the authority's key lies beside what it signed.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	// lifetime of everything made here. renewBefore its end it is made again, so that a system that is used now and then
	// never meets an expired certificate while it runs.
	lifetime    = 2 * 365 * 24 * time.Hour
	renewBefore = 30 * 24 * time.Hour
	// backdate allows for clocks that are a little apart.
	backdate = time.Hour
)

// Pair names the PEM files of one certificate and its key.
type Pair struct {
	Cert string
	Key  string
}

// Files names everything in the directory.
type Files struct {
	CA          string          // the authority's certificate
	Server      Pair            // the key service's
	Operation   Pair            // of posp's listener for HSM operators
	Clients     map[string]Pair // by common name
	OrderKey    string          // Ed25519 private key, PEM PKCS#8
	OrderPublic string          // its public key, PEM PKIX
}

// Ensure makes what is missing or about to end in dir and returns the names. hosts are the names and addresses that the server
// certificates are for, clients the common names of the client certificates: the names that audit will show. now is the clock.
func Ensure(dir string, hosts, clients []string, now time.Time) (Files, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Files{}, fmt.Errorf("create the certificate directory: %w", err)
	}
	m := &maker{dir: dir, now: now}
	files := Files{
		CA: m.path("ca.crt"), Server: m.pair("keys-server"), Operation: m.pair("posp-server"), Clients: map[string]Pair{},
		OrderKey: m.path("order.key"), OrderPublic: m.path("order.pub"),
	}
	if err := m.authority(Pair{Cert: files.CA, Key: m.path("ca.key")}); err != nil {
		return Files{}, err
	}
	if err := m.leaf(files.Server, "keyward key service", hosts); err != nil {
		return Files{}, err
	}
	if err := m.leaf(files.Operation, "keyward posp", hosts); err != nil {
		return Files{}, err
	}
	for _, name := range clients {
		files.Clients[name] = m.pair("client-" + name)
		if err := m.leaf(files.Clients[name], name, nil); err != nil {
			return Files{}, err
		}
	}
	return files, m.orderKey(files.OrderKey, files.OrderPublic)
}

// maker makes the files of one directory.
type maker struct {
	dir    string
	now    time.Time
	ca     *x509.Certificate
	caKey  crypto.Signer
	remade bool // the authority is new, so everything that it signs must be
}

func (m *maker) path(name string) string { return filepath.Join(m.dir, name) }

func (m *maker) pair(name string) Pair {
	return Pair{Cert: m.path(name + ".crt"), Key: m.path(name + ".key")}
}

// authority loads the authority or makes it.
func (m *maker) authority(files Pair) error {
	cert, certErr := readCertificate(files.Cert)
	key, keyErr := readKey(files.Key)
	if certErr == nil && keyErr == nil && m.fresh(cert) {
		m.ca, m.caKey = cert, key
		return nil
	}
	template := m.template("keyward development authority")
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	newKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make the authority's key: %w", err)
	}
	if m.ca, err = write(files, template, template, newKey, newKey); err != nil {
		return err
	}
	m.caKey, m.remade = newKey, true
	return nil
}

// leaf makes a certificate unless a good one is there. With hosts it is a server's, without a client's.
func (m *maker) leaf(files Pair, name string, hosts []string) error {
	cert, certErr := readCertificate(files.Cert)
	_, keyErr := readKey(files.Key)
	if certErr == nil && keyErr == nil && !m.remade && m.fresh(cert) && serves(cert, hosts) && cert.CheckSignatureFrom(m.ca) == nil {
		return nil
	}
	template := m.template(name)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if len(hosts) > 0 {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make the key of %s: %w", name, err)
	}
	_, err = write(files, template, m.ca, key, m.caKey)
	return err
}

// orderKey makes the key pair that signs orders. It has no end, and a new one would make orders in use worthless.
func (m *maker) orderKey(private, public string) error {
	key, err := readKey(private)
	switch {
	case err == nil:
		if _, ok := key.(ed25519.PrivateKey); !ok {
			return fmt.Errorf("%s is not an Ed25519 key: remove it and a new one is made", private)
		}
	case errors.Is(err, fs.ErrNotExist):
		_, made, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return fmt.Errorf("make the order key: %w", err)
		}
		if err := writeKey(private, made); err != nil {
			return err
		}
		key = made
	default:
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return fmt.Errorf("encode the public order key: %w", err)
	}
	return writePEM(public, "PUBLIC KEY", der, 0o644)
}

func (m *maker) template(name string) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)) // crypto/rand never fails since Go 1.24
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name, Organization: []string{"Keyward development"}},
		NotBefore: m.now.Add(-backdate), NotAfter: m.now.Add(lifetime),
	}
}

func (m *maker) fresh(cert *x509.Certificate) bool {
	return m.now.After(cert.NotBefore) && m.now.Add(renewBefore).Before(cert.NotAfter)
}

func serves(cert *x509.Certificate, hosts []string) bool {
	for _, host := range hosts {
		if cert.VerifyHostname(host) != nil {
			return false
		}
	}
	return true
}
