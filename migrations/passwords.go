package migrations

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Names of the roles. One service, one role; nobody logs in as the owner.
const (
	RoleOwner  = "keyward_owner"  // RoleOwner owns every table, view and function. It never logs in.
	RolePOSP   = "keyward_posp"   // RolePOSP is the terminal-facing process.
	RoleKeys   = "keyward_keys"   // RoleKeys is the key service (posp keys serve).
	RoleIssuer = "keyward_issuer" // RoleIssuer writes cards.
	RolePOSV   = "keyward_posv"   // RolePOSV is the registry and the console.
)

const (
	scramIterations = 4096 // PostgreSQL's own default (scram_iterations)
	scramSalt       = 16   // bytes, as PostgreSQL uses

	// alterTries bounds the repetitions when two processes change one role at the same moment; PostgreSQL lets the second
	// fail with "tuple concurrently updated" instead of waiting.
	alterTries = 10
	alterPause = 20 * time.Millisecond
)

// ServiceRoles lists the roles that log in, in the order of the constants.
func ServiceRoles() []string {
	return []string{RolePOSP, RoleKeys, RoleIssuer, RolePOSV}
}

// SetPasswords lets service roles log in with the passwords given, as role → password. Only the SCRAM verifier goes to the
// server, so that no password can reach its log. Roles are those of ServiceRoles; the owner is refused. Call it after Apply.
func SetPasswords(ctx context.Context, url string, passwords map[string]string) error {
	for role, password := range passwords {
		if !slices.Contains(ServiceRoles(), role) {
			return fmt.Errorf("set passwords: %q is not a service role (want one of %v)", role, ServiceRoles())
		}
		if password == "" || !printable(password) {
			return fmt.Errorf("set passwords: the password of %s is empty or has characters other than printable ASCII", role)
		}
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("set passwords: connect: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for role, password := range passwords {
		verifier, err := scramVerifier(password)
		if err != nil {
			return fmt.Errorf("set passwords: %w", err)
		}
		// A verifier is base64 and punctuation without quotes, so it needs no escaping.
		statement := "ALTER ROLE " + pgx.Identifier{role}.Sanitize() + " LOGIN PASSWORD '" + verifier + "'"
		if err := alterRole(ctx, conn, statement); err != nil {
			return fmt.Errorf("set passwords: alter role %s: %w", role, err)
		}
	}
	return nil
}

func alterRole(ctx context.Context, conn *pgx.Conn, statement string) error {
	for try := 1; ; try++ {
		_, err := conn.Exec(ctx, statement)
		var pgErr *pgconn.PgError
		concurrent := errors.As(err, &pgErr) && pgErr.Code == "XX000"
		if !concurrent || try == alterTries {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(try) * alterPause):
		}
	}
}

// printable tells whether SASLprep (RFC 4013) leaves the password as it is, so that it need not be done here.
func printable(password string) bool {
	for _, r := range password {
		if r < ' ' || r > '~' {
			return false
		}
	}
	return true
}

// scramVerifier makes the text that PostgreSQL stores for a password (RFC 5802 §3, RFC 7677):
// SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey.
func scramVerifier(password string) (string, error) {
	salt := make([]byte, scramSalt)
	if _, err := rand.Read(salt); err != nil {
		return "", fmt.Errorf("make a salt: %w", err)
	}
	salted, err := pbkdf2.Key(sha256.New, password, salt, scramIterations, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("derive a SCRAM key: %w", err)
	}
	mac := func(text string) []byte {
		h := hmac.New(sha256.New, salted)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(mac("Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return "SCRAM-SHA-256$" + strconv.Itoa(scramIterations) + ":" + b64(salt) + "$" + b64(stored[:]) + ":" + b64(mac("Server Key")), nil
}
