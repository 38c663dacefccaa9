//go:build unix

package spool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Lock uses flock(2), which the kernel releases when the process ends in whatever way; a left-over file means nothing.
func (osFS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		text, _ := io.ReadAll(io.LimitReader(f, 32)) // A missing pid is told as unknown.
		_ = f.Close()                                // Nothing was written.
		pid := strings.TrimSpace(string(text))
		if _, convErr := strconv.Atoi(pid); convErr != nil {
			pid = "unknown"
		}
		return nil, fmt.Errorf("directory %s is in use by process %s: stop that process, or give this instance a directory of its own",
			filepath.Dir(name), pid)
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		// The pid is only for people; a disk too full to hold it must not keep the spool from opening.
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
		return flock{f}, nil
	}
	_ = f.Close() // The error that matters is already known.
	return nil, fmt.Errorf("lock %s: %w", name, err)
}

// flock is a held lock.
type flock struct{ file *os.File }

// Close unlocks by name: a process that was forked at this moment holds the descriptor until it execs, and closing ours
// alone would leave the directory locked for so long.
func (l flock) Close() error {
	return errors.Join(syscall.Flock(int(l.file.Fd()), syscall.LOCK_UN), l.file.Close())
}
