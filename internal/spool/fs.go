package spool

import (
	"io"
	"io/fs"
	"os"
)

// FS is the set of file operations that a spool needs. The real one is OS(); spooltest has one that models a power cut.
type FS interface {
	// MkdirAll makes a directory and its parents.
	MkdirAll(dir string, perm fs.FileMode) error
	// ReadDir returns the names in a directory, in any order.
	ReadDir(dir string) ([]string, error)
	// OpenFile opens a file with the flags of package os (O_RDWR, O_CREATE and O_TRUNC are used).
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	// Rename replaces newName by oldName in one step.
	Rename(oldName, newName string) error
	// Remove removes a file's name; open files stay readable.
	Remove(name string) error
	// SyncDir makes created, renamed and removed names of a directory durable.
	SyncDir(dir string) error
	// Lock takes an exclusive lock that ends with the process, or refuses with a sentence naming the holder.
	Lock(name string) (io.Closer, error)
}

// File is an open file of an FS.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Sync makes the content durable. After an error the state of what was written is unknown.
	Sync() error
	// Truncate cuts or extends the file to size bytes.
	Truncate(size int64) error
	// Size returns the length in bytes.
	Size() (int64, error)
}

// OS returns the operating system's files. On macOS Sync asks the drive itself (F_FULLFSYNC), as package os does.
func OS() FS { return osFS{} }

type osFS struct{}

var (
	_ FS   = osFS{}
	_ File = osFile{}
)

func (osFS) MkdirAll(dir string, perm fs.FileMode) error { return os.MkdirAll(dir, perm) }
func (osFS) Rename(oldName, newName string) error        { return os.Rename(oldName, newName) }
func (osFS) Remove(name string) error                    { return os.Remove(name) }

func (osFS) ReadDir(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	_ = d.Close() // Only read.
	return names, err
}

func (osFS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	_ = d.Close() // Only read.
	return err
}

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
