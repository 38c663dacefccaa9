package access

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

const (
	// lookEvery is how often the files are looked at, when there is traffic: within this time a new list counts.
	lookEvery = 10 * time.Second
	// maxList bounds a file: a list of a million certificates has about 40 MB.
	maxList = 64 << 20
)

// revoked are the revocation lists of a listener.
type revoked struct {
	files       []string
	authorities []*x509.Certificate
	log         *slog.Logger
	now         func() time.Time

	mu      sync.RWMutex // not held while files are read
	looked  time.Time
	entries map[entry]time.Time // when it was revoked
	marks   []mark              // of the files that the entries come from
}

// entry is one certificate: the name of its authority in DER, and its serial number.
type entry struct{ issuer, serial string }

// mark tells whether a file has changed.
type mark struct {
	changed time.Time
	size    int64
}

func newRevoked(files []string, authorities []*x509.Certificate, log *slog.Logger, now func() time.Time) (*revoked, error) {
	r := &revoked{files: files, authorities: authorities, log: log, now: now, looked: now()}
	marks, err := r.look()
	if err != nil {
		return nil, err
	}
	if r.entries, err = r.read(); err != nil {
		return nil, err
	}
	r.marks = marks
	return r, nil
}

// check refuses a revoked certificate.
func (r *revoked) check(cert *x509.Certificate) error {
	if r == nil || len(r.files) == 0 {
		return nil
	}
	r.renew()
	r.mu.RLock()
	at, found := r.entries[entry{string(cert.RawIssuer), cert.SerialNumber.String()}]
	r.mu.RUnlock()
	if found {
		return fmt.Errorf("%q was revoked at %s: give the terminal a new certificate", cert.Subject.CommonName, at.UTC().Format(time.RFC3339))
	}
	return nil
}

// renew reads the lists again when a file has changed. A list that cannot be read leaves the old one in force: refusing everybody would
// let whoever can damage one file stop all terminals.
func (r *revoked) renew() {
	now := r.now()
	r.mu.RLock()
	due := now.Sub(r.looked) >= lookEvery
	r.mu.RUnlock()
	if !due {
		return
	}
	r.mu.Lock()
	due = now.Sub(r.looked) >= lookEvery
	if due {
		r.looked = now // one caller looks, the others go on with what there is
	}
	old := r.marks
	r.mu.Unlock()
	if !due {
		return
	}
	marks, err := r.look()
	if err == nil && same(old, marks) {
		return
	}
	entries := map[entry]time.Time(nil)
	if err == nil {
		entries, err = r.read()
	}
	if err != nil {
		r.log.Error("revocation list cannot be renewed, the one before stays in force", "error", err)
		return
	}
	r.mu.Lock()
	r.entries, r.marks = entries, marks
	r.mu.Unlock()
	r.log.Info("revocation lists renewed", "certificates", len(entries))
}

func (r *revoked) look() ([]mark, error) {
	var marks []mark
	for _, f := range r.files {
		info, err := os.Stat(f)
		if err != nil {
			return nil, fmt.Errorf("revocation list: %w", err)
		}
		if info.Size() > maxList {
			return nil, fmt.Errorf("revocation list %s has more than %d bytes", f, maxList)
		}
		marks = append(marks, mark{info.ModTime(), info.Size()})
	}
	return marks, nil
}

func same(a, b []mark) bool {
	for i := range a {
		if i >= len(b) || !a[i].changed.Equal(b[i].changed) || a[i].size != b[i].size {
			return false
		}
	}
	return len(a) == len(b)
}

// read reads all lists. A list counts only with the signature of an authority of the listener.
func (r *revoked) read() (map[entry]time.Time, error) {
	all := map[entry]time.Time{}
	for _, f := range r.files {
		raw, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("revocation list: %w", err)
		}
		if block, _ := pem.Decode(raw); block != nil {
			raw = block.Bytes
		}
		list, err := x509.ParseRevocationList(raw)
		if err != nil {
			return nil, fmt.Errorf("revocation list %s: %w; it must be one list in PEM or DER form", f, err)
		}
		if err := r.signed(list); err != nil {
			return nil, fmt.Errorf("revocation list %s: %w", f, err)
		}
		if !list.NextUpdate.IsZero() && r.now().After(list.NextUpdate) {
			r.log.Warn("revocation list is out of date, it stays in force until there is a newer one", "file", f, "next_update", list.NextUpdate)
		}
		for _, e := range list.RevokedCertificateEntries {
			all[entry{string(list.RawIssuer), e.SerialNumber.String()}] = e.RevocationTime
		}
	}
	return all, nil
}

func (r *revoked) signed(list *x509.RevocationList) error {
	for _, a := range r.authorities {
		if list.CheckSignatureFrom(a) == nil {
			return nil
		}
	}
	return errors.New("it is signed by none of the listener's authorities")
}

// certificates reads all certificates of a PEM file.
func certificates(raw []byte) ([]*x509.Certificate, error) {
	var list []*x509.Certificate
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	if len(list) == 0 {
		return nil, errors.New("holds no certificate in PEM form")
	}
	return list, nil
}
