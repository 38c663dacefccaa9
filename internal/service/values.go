package service

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/keyward/keyward/keys/secret"
)

// maxSecretFile bounds what is read from a secret file: a PEM chain is a few KiB.
const maxSecretFile = 64 << 10

// Profile is where a service runs. Production refuses test keys, simulators and loose file rights.
type Profile string

// The profiles.
const (
	Dev        Profile = "dev"
	Test       Profile = "test"
	Production Profile = "production"
)

// UnmarshalText accepts dev, test and production.
func (p *Profile) UnmarshalText(b []byte) error {
	switch v := Profile(b); v {
	case Dev, Test, Production:
		*p = v
		return nil
	default:
		return errors.New("not a known profile")
	}
}

// ConfigHint says what is allowed.
func (Profile) ConfigHint() string { return "dev, test or production" }

// Duration is a length of time that is written with its unit: 1500ms, 10s, 5m, 24h.
type Duration time.Duration

// UnmarshalText refuses a number without a unit, and anything below zero.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil || v < 0 {
		return errors.New("not a duration") // the cause would repeat the value
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes the form that UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// ConfigHint says what is allowed.
func (Duration) ConfigHint() string {
	return "a duration with its unit, such as 1500ms, 10s, 5m or 24h"
}

// Std is the same as a time.Duration.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String implements fmt.Stringer.
func (d Duration) String() string { return time.Duration(d).String() }

// SecretFile is the path of a file that holds a secret. A configuration never holds the secret itself. LoadConfig makes a
// relative path absolute from the folder of the configuration file and, in the production profile, refuses a file that
// others than its owner and group can read or write.
type SecretFile string

// ConfigHint says what is allowed.
func (SecretFile) ConfigHint() string { return "the path of a file that holds the secret" }

// Read returns the content without one line end at its end. An empty or over-long file is refused.
func (f SecretFile) Read() (secret.Bytes, error) {
	if f == "" {
		return secret.Bytes{}, errors.New("no secret file is configured")
	}
	file, err := os.Open(string(f))
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("secret file: %w", err)
	}
	defer func() { _ = file.Close() }() // only read
	b, err := io.ReadAll(io.LimitReader(file, maxSecretFile+1))
	defer clear(b)
	switch {
	case err != nil:
		return secret.Bytes{}, fmt.Errorf("secret file: %w", err)
	case len(b) > maxSecretFile:
		return secret.Bytes{}, fmt.Errorf("secret file %s: more than %d bytes", f, maxSecretFile)
	}
	content := bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
	if len(content) == 0 {
		return secret.Bytes{}, fmt.Errorf("secret file %s is empty", f)
	}
	return secret.New(content), nil
}

// checkRights refuses a file that is missing, no plain file, or open to everybody.
func (f SecretFile) checkRights() error {
	info, err := os.Stat(string(f))
	if err != nil {
		return fmt.Errorf("secret file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("secret file %s is not a plain file", f)
	}
	if open := info.Mode().Perm() & 0o006; open != 0 {
		return fmt.Errorf("secret file %s can be read or written by every user of this machine (mode %04o); run: chmod 0600 %s", f, info.Mode().Perm(), f)
	}
	return nil
}
