package pki

import (
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"os"
	"time"
)

// Terminals names the files of the authority for terminals. It is apart from that of services and operators, so that no terminal's
// certificate opens anything but a listener for terminals.
type Terminals struct {
	Dir     string // has NUMBER.crt and NUMBER.key of each terminal
	CA      string // the authority's certificate
	Server  Pair   // of posp's listener for terminals
	Revoked string // the authority's revocation list, PEM; replace it to revoke
}

// EnsureTerminals makes what is missing or about to end in dir and returns the names. hosts are the names and addresses of the
// listener, numbers those of the terminals, which become the common names. now is the clock.
func EnsureTerminals(dir string, hosts, numbers []string, now time.Time) (Terminals, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Terminals{}, fmt.Errorf("create the directory of the terminals' certificates: %w", err)
	}
	m := &maker{dir: dir, now: now}
	t := Terminals{Dir: dir, CA: m.path("ca.crt"), Server: m.pair("listener"), Revoked: m.path("revoked.crl")}
	if err := m.authority(Pair{Cert: t.CA, Key: m.path("ca.key")}); err != nil {
		return t, err
	}
	if err := m.leaf(t.Server, "keyward terminal listener", hosts); err != nil {
		return t, err
	}
	for _, n := range numbers {
		if err := m.leaf(m.pair(n), n, nil); err != nil {
			return t, err
		}
	}
	return t, m.revocationList(t.Revoked)
}

// revocationList makes an empty list, unless there is one of this authority: somebody may have put a certificate on it.
func (m *maker) revocationList(path string) error {
	der, err := readPEM(path, "X509 CRL")
	if err == nil {
		var list *x509.RevocationList
		if list, err = x509.ParseRevocationList(der); err == nil && list.CheckSignatureFrom(m.ca) == nil && m.now.Before(list.NextUpdate) {
			return nil
		}
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("revocation list: %w; remove %s and a new one is made", err, path)
	}
	der, err = x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(m.now.Unix()), ThisUpdate: m.now.Add(-backdate), NextUpdate: m.now.Add(lifetime),
	}, m.ca, m.caKey)
	if err != nil {
		return fmt.Errorf("sign the revocation list: %w", err)
	}
	return writePEM(path, "X509 CRL", der, 0o644)
}
