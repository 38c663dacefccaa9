package exchangelog

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	dirMode  = 0o700
	fileMode = 0o600
	// othersWrite are the mode bits with which others than the owner could plant or remove files.
	othersWrite = 0o022
	fileEnding  = ".jsonl"
	// fileTimeLayout begins the name of a file, so that names sort by time. It has no colons, which some file systems refuse.
	fileTimeLayout = "20060102T150405.000000Z"
)

// store is the set of file operations that a writer needs.
type store interface {
	makeDir(dir string) error
	// list gives the journal's files in the directory with their sizes, of all streams, in the order of their names.
	list(dir string) ([]journalFile, error)
	// create makes a file that was not there.
	create(path string) (file, error)
	remove(path string) error
}

// file is an open file that only grows, apart from a torn line that is cut off.
type file interface {
	io.WriteCloser
	Truncate(size int64) error
}

// journalFile is a file by its name: time of its beginning, group and instance.
type journalFile struct {
	name   string
	begun  time.Time
	stream string // group and instance, as they stand in the name
	bytes  int64
}

// streamName is the part of a file's name that tells writers apart.
func streamName(group, instance string) string { return group + "@" + instance }

func fileName(begun time.Time, stream string) string {
	return begun.UTC().Format(fileTimeLayout) + "_" + stream + fileEnding
}

// parseFileName says what a name tells, and whether it is a journal's at all.
func parseFileName(name string) (journalFile, bool) {
	rest, ok := strings.CutSuffix(name, fileEnding)
	if !ok || len(rest) < len(fileTimeLayout)+2 || rest[len(fileTimeLayout)] != '_' {
		return journalFile{}, false
	}
	begun, err := time.Parse(fileTimeLayout, rest[:len(fileTimeLayout)])
	if err != nil {
		return journalFile{}, false
	}
	return journalFile{name: name, begun: begun, stream: rest[len(fileTimeLayout)+1:]}, true
}

// osStore is the operating system's files.
type osStore struct{}

var _ store = osStore{}

func (osStore) makeDir(dir string) error {
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&othersWrite != 0 {
		return errors.New("others may write to it: chmod 700 " + dir)
	}
	return nil
}

func (osStore) create(path string) (file, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, fileMode)
}

func (osStore) remove(path string) error { return os.Remove(path) }

// listNames gives the journal's files in a directory, without their sizes. What has another name, or is no plain file, is not the journal's.
func listNames(dir string) ([]journalFile, error) {
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		return nil, err
	}
	var files []journalFile
	for _, entry := range entries {
		if f, ok := parseFileName(entry.Name()); ok && entry.Type().IsRegular() {
			files = append(files, f)
		}
	}
	return files, nil
}

func (osStore) list(dir string) ([]journalFile, error) {
	files, err := listNames(dir)
	if err != nil {
		return nil, err
	}
	there := files[:0]
	for _, f := range files {
		info, err := os.Lstat(filepath.Join(dir, f.name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since
		}
		if err != nil {
			return nil, err
		}
		f.bytes = info.Size()
		there = append(there, f)
	}
	return there, nil
}

func (w *Writer) path(name string) string { return filepath.Join(w.cfg.Dir, name) }
