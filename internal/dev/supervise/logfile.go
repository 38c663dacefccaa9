package supervise

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
)

const (
	// keptLogs is how many logs of one child are kept, the current one included.
	keptLogs = 3
	// maxLog bounds one log: it is rotated at this size, so that a child that complains for days fills no disk.
	maxLog = 16 << 20
	// maxTail bounds what is kept in memory of a log, for messages.
	maxTail = 4 << 10
)

// logFile is the log of one child: rotated at the start and at its size.
type logFile struct {
	path string

	mu   sync.Mutex
	file *os.File
	size int64
	tail []byte // the last bytes written
}

func openLog(path string) (*logFile, error) {
	l := &logFile{path: path}
	if err := l.rotate(); err != nil {
		return nil, err
	}
	return l, nil
}

// rotate moves path to path.1, path.1 to path.2, and starts a new one.
func (l *logFile) rotate() error {
	if l.file != nil {
		_ = l.file.Close() // every line was written at once
	}
	for i := keptLogs - 1; i >= 1; i-- {
		from := l.path
		if i > 1 {
			from = fmt.Sprintf("%s.%d", l.path, i-1)
		}
		if err := os.Rename(from, fmt.Sprintf("%s.%d", l.path, i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("rotate log: %w", err)
		}
	}
	file, err := os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	l.file, l.size = file, 0
	return nil
}

// Write appends what a child printed. It never fails: a child must not be stopped by a full disk under its log.
func (l *logFile) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tail = append(l.tail, b...)
	if extra := len(l.tail) - maxTail; extra > 0 {
		l.tail = append(l.tail[:0], l.tail[extra:]...)
	}
	if l.size+int64(len(b)) > maxLog {
		if l.rotate() != nil {
			return len(b), nil // the old file is closed: nothing is written until a rotation succeeds
		}
	}
	n, _ := l.file.Write(b)
	l.size += int64(n)
	return len(b), nil
}

// Close closes the file.
func (l *logFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}

// excerpt is the end of the log for people, with its path.
func (l *logFile) excerpt(lines int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := strings.TrimRight(string(l.tail), "\n")
	if text == "" {
		return "its log is empty: " + l.path
	}
	all := strings.Split(text, "\n")
	return "the end of its log (" + l.path + "):\n" + indent(all[max(0, len(all)-lines):])
}
