package postgres

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// sharedRoot holds what root keeps for the database user: every user may traverse it, and it survives a reboot.
const sharedRoot = "/var/tmp"

// lockName is the lock file; it also marks a directory as one of ours.
const lockName = "keyward.lock"

// socketPathLimit is the longest path of a unix socket that every supported system takes (macOS: 104 bytes with the final
// zero), less the name ".s.PGSQL.65535".
const socketPathLimit = 103 - len("/.s.PGSQL.65535")

// takeDirectory creates the directory for the server and returns it. When the database user cannot reach the wished one,
// it takes /var/tmp/keyward-<hash of the wished path> and says so in notice.
func takeDirectory(ctx context.Context, wished string, id identity) (dir, notice string, err error) {
	if err := refuseForeign(wished); err != nil {
		return "", "", err
	}
	if err := makeDirectory(wished, id); err != nil {
		return "", "", err
	}
	if id.canUse(ctx, wished) {
		return wished, "", nil
	}
	if !id.dropped {
		return "", "", fmt.Errorf("postgres: directory %s is not writable for user %s: make it writable or choose another data directory", wished, id.name)
	}
	sum := sha256.Sum256([]byte(wished))
	dir = filepath.Join(sharedRoot, "keyward-"+hex.EncodeToString(sum[:8]))
	if err := makeDirectory(dir, id); err != nil {
		return "", "", err
	}
	if !id.canUse(ctx, dir) {
		return "", "", fmt.Errorf("postgres: user %s can use neither %s nor %s: choose a data directory whose parents that user may enter", id.name, wished, dir)
	}
	return dir, fmt.Sprintf("user %s, whom the database runs as, cannot enter %s; the data is in %s", id.name, wished, dir), nil
}

// refuseForeign refuses a directory that holds other things than a database of ours: it would be closed to other users.
func refuseForeign(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && len(entries) == 0) {
		return nil
	}
	if err != nil {
		return explainPath("read directory", dir, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, lockName)); err != nil {
		return fmt.Errorf("postgres: directory %s holds other files: choose an empty or a new one for the database", dir)
	}
	return nil
}

// makeDirectory creates dir for the user, closed to others. In a directory that all may write, such as /var/tmp, somebody
// else may have put something under the name: only a real directory of root or of the user is accepted.
func makeDirectory(dir string, id identity) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil { //nolint:gosec // parents must be traversable by the database user
		return explainPath("create directory", dir, err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return explainPath("create directory", dir, err)
	}
	info, err := os.Stat(dir)
	if filepath.Dir(dir) == sharedRoot || filepath.Dir(dir) == "/tmp" {
		info, err = os.Lstat(dir)
	}
	if err != nil {
		return explainPath("read directory", dir, err)
	}
	if owner := ownerOf(info); !info.IsDir() || (owner != os.Geteuid() && owner != id.uid) {
		return fmt.Errorf("postgres: %s is not a directory of ours: remove it or choose another data directory", dir)
	}
	if err := id.own(dir); err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // a directory needs its execute bit
			return explainPath("close directory", dir, err)
		}
	}
	return nil
}

// ownerOf returns the uid of a file's owner, -1 where the system does not tell.
func ownerOf(info fs.FileInfo) int {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return -1
	}
	return int(stat.Uid)
}

// lockDirectory keeps two processes from running servers in one directory. The kernel drops the lock when this process
// dies, so it can never be stale.
func lockDirectory(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockName)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, explainPath("create", path, err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("postgres: another keyward process runs its database in %s: stop that one or choose another data directory", dir)
		}
		return nil, explainPath("lock", path, err)
	}
	return file, nil
}

// socketDirectory returns a directory for the unix socket: beside the data where the path is short enough, else one in /tmp.
func socketDirectory(base string, id identity) (string, error) {
	dir := filepath.Join(base, "run")
	if len(dir) <= socketPathLimit {
		return dir, makeDirectory(dir, id)
	}
	dir, err := os.MkdirTemp("/tmp", "keyward-pg-") // os.TempDir of macOS is itself too long
	if err != nil {
		return "", explainPath("create socket directory in", "/tmp", err)
	}
	return dir, id.own(dir)
}

// dataMajor returns the major version that wrote the data directory, "" when there is none yet.
func dataMajor(data string) string {
	raw, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}

// readPassword returns the superuser's password kept in the directory, making one when there is none. fresh tells the
// caller that the server does not know it yet.
func readPassword(dir string) (password string, fresh bool, err error) {
	path := filepath.Join(dir, "password")
	raw, err := os.ReadFile(path)
	if password = strings.TrimSpace(string(raw)); err == nil && len(password) >= 32 {
		return password, false, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", false, explainPath("read", path, err)
	}
	return rand.Text() + rand.Text(), true, nil
}

// writePassword keeps the password in a file that only this user reads. It is written whole or not at all, and only once
// the server has it.
func writePassword(dir, password string) error {
	path := filepath.Join(dir, "password")
	temp, err := os.CreateTemp(dir, "password-*") // created with mode 0600
	if err != nil {
		return explainPath("write", path, err)
	}
	_, writeErr := temp.WriteString(password + "\n")
	err = errors.Join(writeErr, temp.Sync(), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return errors.Join(explainPath("write", path, err), os.Remove(temp.Name()))
	}
	return nil
}

// within tells whether path lies below dir.
func within(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// explainPath turns an error about a path into a sentence with the next step.
func explainPath(what, path string, err error) error {
	hint := ""
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		hint = ": the disk is full: free some space or choose a data directory on another disk"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		hint = ": make it writable or choose another data directory"
	case errors.Is(err, syscall.ENOTDIR):
		hint = ": a file stands where a directory is needed; choose another data directory"
	}
	return fmt.Errorf("postgres: %s %s: %w%s", what, path, err, hint)
}
