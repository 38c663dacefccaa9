package dev

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/keyward/keyward/internal/dev/supervise"
)

// lockName is the lock file; it also marks a directory as one of ours, so that a reset cannot remove anything else.
const lockName = "keyward.lock"

// layout says what is where below the data directory.
type layout struct{ root string }

func (l layout) path(parts ...string) string {
	return filepath.Join(append([]string{l.root}, parts...)...)
}
func (l layout) config(service string) string { return l.path("config", service+".yaml") }
func (l layout) logs() string                 { return l.path("logs") }
func (l layout) pids() string                 { return l.path("processes") }
func (l layout) databaseURL(role string) string {
	return l.path("secrets", role+".url")
}

// databasePlace is the file that says where the database is: not below root when its user cannot go there.
func (l layout) databasePlace() string { return l.path("database-directory") }

// open creates the data directory, closed to others, and takes its lock, which the kernel drops when this process dies.
func open(root string) (layout, *dirLock, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return layout{}, nil, fmt.Errorf("data directory %s: %w", root, err)
	}
	l := layout{root: root}
	if err := refuseForeign(root); err != nil {
		return l, nil, err
	}
	// The database's user must be able to enter; what is secret lies in directories of its own that are closed.
	if err := os.MkdirAll(root, 0o755); err != nil { //nolint:gosec // see above
		return l, nil, explain("create the data directory", root, err)
	}
	file, err := os.OpenFile(l.path(lockName), os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return l, nil, explain("open", l.path(lockName), err)
	}
	lock := &dirLock{file: file}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return l, nil, fmt.Errorf("another keyward runs with the data in %s: stop that one, or choose another directory with --data-dir and other ports with --port-offset", root)
		}
		return l, nil, explain("lock", l.path(lockName), err)
	}
	for _, dir := range []string{"config", "secrets", "pki", "logs", "state"} {
		if err := os.MkdirAll(l.path(dir), 0o700); err != nil {
			return l, nil, errors.Join(explain("create", l.path(dir), err), lock.Close())
		}
	}
	return l, lock, nil
}

// dirLock is the lock of a data directory.
type dirLock struct{ file *os.File }

// Close gives the lock back. It says so to the system instead of leaving it to the closing of the file: a child process that is being
// started at this moment holds a copy of the file until it has become its own program.
func (l *dirLock) Close() error {
	return errors.Join(syscall.Flock(int(l.file.Fd()), syscall.LOCK_UN), l.file.Close())
}

// refuseForeign refuses a directory with other things in it.
func refuseForeign(root string) error {
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return explain("read", root, err)
	}
	if _, err := os.Lstat(filepath.Join(root, lockName)); err != nil {
		return fmt.Errorf("directory %s holds other files: choose an empty or a new one with --data-dir", root)
	}
	return nil
}

// Reset removes everything that earlier runs left in the data directory and in the database's own one. A system that runs there
// is refused. It tells whether there was anything.
func Reset(ctx context.Context, root string) (bool, error) {
	if _, err := os.Lstat(root); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	l, lock, err := open(root)
	if err != nil {
		return false, err
	}
	defer func() { _ = lock.Close() }()
	if err := supervise.Leftovers(ctx, l.pids()); err != nil {
		return false, err
	}
	if raw, err := os.ReadFile(l.databasePlace()); err == nil {
		// The file is ours, but a directory without the mark of our database is not.
		place := string(raw)
		if _, err := os.Lstat(filepath.Join(place, lockName)); err == nil {
			if err := os.RemoveAll(place); err != nil {
				return false, explain("remove", place, err)
			}
		}
	}
	if err := os.RemoveAll(l.root); err != nil {
		return false, explain("remove", l.root, err)
	}
	return true, nil
}

// writeFile writes a file for its owner only, whole or not at all.
func writeFile(path string, content []byte) error {
	temp := path + ".new"
	if err := os.WriteFile(temp, content, 0o600); err != nil {
		return explain("write", path, err)
	}
	if err := os.Rename(temp, path); err != nil {
		return explain("write", path, err)
	}
	return nil
}

// hinted adds the next step to an error of a full disk that does not name it yet.
func hinted(err error) error {
	if (errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)) && !strings.Contains(err.Error(), "the disk is full") {
		return fmt.Errorf("%w: the disk is full: free some space, or choose a directory on another disk with --data-dir", err)
	}
	return err
}

// explain turns an error about a path into a sentence with the next step.
func explain(what, path string, err error) error {
	var hint string
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		hint = ": the disk is full: free some space, or choose a directory on another disk with --data-dir"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		hint = ": make it writable, or choose another directory with --data-dir"
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, fs.ErrExist):
		hint = ": a file stands where a directory is needed; choose another directory with --data-dir"
	default:
		hint = ": choose another directory with --data-dir"
	}
	// The path stands in most of these errors already; here it must.
	if cause, ok := errors.AsType[*fs.PathError](err); ok {
		err = cause.Err
	}
	return fmt.Errorf("%s %s: %w%s", what, path, err, hint)
}
