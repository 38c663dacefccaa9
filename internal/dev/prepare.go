package dev

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/keyward/keyward/internal/dev/ceremony"
	"github.com/keyward/keyward/internal/dev/pki"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/migrations"
)

// preparedTerminals is how many terminals, from 10000001, get certificates for a system of containers.
const preparedTerminals = 20

// PrepareOptions say what Prepare makes ready.
type PrepareOptions struct {
	DatabaseURLFile string   // connection string of the database's superuser
	Dir             string   // gets secrets/<role>.url and pki/
	KeyServiceHosts []string // names for the key service's certificate
}

// Prepare does for a development system of containers what Start does for itself: the schema, a password and a connection string for
// each role, certificates, and the keys of the simulated ceremony. What exists stays.
func Prepare(ctx context.Context, opt PrepareOptions) error {
	raw, err := service.SecretFile(opt.DatabaseURLFile).Read()
	if err != nil {
		return fmt.Errorf("--database-url-file: %w", err)
	}
	super := string(raw.Reveal())
	if err := migrations.Apply(ctx, super); err != nil {
		return fmt.Errorf("bring the database up to date: %w", err)
	}
	secrets := filepath.Join(opt.Dir, "secrets")
	if err := os.MkdirAll(secrets, 0o700); err != nil {
		return explain("create", secrets, err)
	}
	passwords, urls := map[string]string{}, map[string]string{}
	for _, role := range migrations.ServiceRoles() {
		path := filepath.Join(secrets, role+".url")
		if passwords[role], err = keptPassword(path); err != nil {
			return err
		}
		if urls[role], err = roleURL(super, role, passwords[role]); err != nil {
			return err
		}
		if err := writeFile(path, []byte(urls[role]+"\n")); err != nil {
			return err
		}
	}
	if err := migrations.SetPasswords(ctx, super, passwords); err != nil {
		return fmt.Errorf("set the passwords of the database roles: %w", err)
	}
	if _, err := pki.Ensure(filepath.Join(opt.Dir, "pki"), opt.KeyServiceHosts, certificateNames, time.Now()); err != nil {
		return err
	}
	hosts := append([]string{"posp", loopback, "localhost"}, opt.KeyServiceHosts...)
	if _, err := pki.EnsureTerminals(filepath.Join(opt.Dir, "pki", "terminals"), hosts, certified(preparedTerminals, true), time.Now()); err != nil {
		return err
	}
	testKeys, err := ceremony.Hold()
	if err != nil {
		return err
	}
	return importKeys(ctx, urls[migrations.RoleKeys], testKeys.Store)
}

// keptPassword is the password in an earlier connection string, or a new one.
func keptPassword(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return rand.Text() + rand.Text(), nil
	}
	if err != nil {
		return "", explain("read", path, err)
	}
	u, err := url.Parse(strings.TrimSpace(string(raw)))
	if err != nil {
		return "", fmt.Errorf("%s holds no connection string: remove it and a new one is made", path) // the cause would quote it
	}
	password, ok := u.User.Password()
	if !ok {
		return "", fmt.Errorf("%s holds no password: remove it and a new one is made", path)
	}
	return password, nil
}

// roleURL is the connection string of a role for the database of super.
func roleURL(super, role, password string) (string, error) {
	u, err := url.Parse(super)
	if err != nil {
		return "", errors.New("the superuser's connection string is not a URL like postgres://postgres:…@host:5432/keyward") // the cause would quote it
	}
	u.User = url.UserPassword(role, password)
	return u.String(), nil
}
