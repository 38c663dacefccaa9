// Package spooltest is an in-memory file layer for the spool that models the page cache: what is written and what is
// durable are two things, and Crash shows what a power cut leaves. It also injects the errors of a bad or full disk.
package spooltest

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"github.com/keyward/keyward/internal/spool"
)

// FaultFS is a file system with one level of directories. The zero value is not usable; see New.
type FaultFS struct {
	mu      sync.Mutex
	rand    *rand.Rand
	boot    int
	names   map[string]*inode // As processes see them.
	durable map[string]*inode // As the disk has them: names at their last SyncDir.
	locks   map[string]bool

	syncs    int // Calls of File.Sync and SyncDir.
	failSync int // Number of the call that fails; 0 for none.
	fault    SyncFault
	space    int64 // Bytes that may still be added; negative for unlimited.
	readErr  error
	gate     chan struct{} // Not nil: Sync waits until it is closed.
	held     string        // End of the names of files that wait at the gate.
	entered  chan struct{} // Receives one value per Sync that reaches the gate.
}

// inode is the content of a file: durable content, and every change since.
type inode struct {
	durable []byte
	data    []byte
	dirty   []change
}

// change is a write at off, or a truncation to off when cut is set.
type change struct {
	off  int64
	data []byte
	cut  bool
}

// gateDepth bounds the values kept for a test that does not read them.
const gateDepth = 1024

// New returns an empty file system; seed decides what Crash tears.
func New(seed uint64) *FaultFS {
	return &FaultFS{
		rand: rand.New(rand.NewPCG(seed, 1)), boot: 1, space: -1, // Repeatable faults, no secret.
		names: map[string]*inode{}, durable: map[string]*inode{}, locks: map[string]bool{},
	}
}

// BootID names the boot of the modelled machine; Crash begins a new one.
func (f *FaultFS) BootID() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return "boot-" + strconv.Itoa(f.boot)
}

// Syncs returns how often a file or directory was fsynced.
func (f *FaultFS) Syncs() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.syncs
}

// SyncFault is what a failing fsync does to the data it should have written.
type SyncFault int

const (
	// StayDirty keeps the data for the next fsync.
	StayDirty SyncFault = iota
	// MarkClean keeps the data readable but never writes it: later calls succeed without it. This is what Linux does,
	// and why an fsync must not be retried.
	MarkClean
	// Forget drops the data from the page cache as well, as happens to clean pages under memory pressure.
	Forget
)

// SyncFaults are all faults, for tests that run each.
var SyncFaults = []SyncFault{StayDirty, MarkClean, Forget}

// FailSync makes the nth fsync from now on fail with EIO.
func (f *FaultFS) FailSync(nth int, fault SyncFault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failSync, f.fault = f.syncs+nth, fault
}

// SetSpace leaves room for n more bytes: the write that exceeds it is short and returns ENOSPC. Negative: unlimited.
func (f *FaultFS) SetSpace(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.space = n
}

// FailReads makes every read return err (EIO, for example) until called with nil.
func (f *FaultFS) FailReads(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.readErr = err
}

// HoldSync makes every later fsync of a file whose name ends in suffix wait until release is called. entered receives
// one value for each that waits.
func (f *FaultFS) HoldSync(suffix string) (entered <-chan struct{}, release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	gate := make(chan struct{})
	f.held = suffix
	f.gate, f.entered = gate, make(chan struct{}, gateDepth)
	return f.entered, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		close(gate)
		f.gate = nil
	}
}

// Names returns the paths of all files, as processes see them.
func (f *FaultFS) Names() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return sortedNames(f.names)
}

// Content returns a copy of a file's bytes, nil when it does not exist.
func (f *FaultFS) Content(name string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.names[name]; n != nil {
		return append([]byte{}, n.data...)
	}
	return nil
}

// SetContent replaces a file's bytes, durable: damage on the disk.
func (f *FaultFS) SetContent(name string, b []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := &inode{durable: append([]byte{}, b...), data: append([]byte{}, b...)}
	f.names[name], f.durable[name] = n, n
}

var _ spool.FS = (*FaultFS)(nil)

// MkdirAll does nothing: directories always exist and survive.
func (f *FaultFS) MkdirAll(string, fs.FileMode) error { return nil }

// ReadDir returns the names of the files in dir.
func (f *FaultFS) ReadDir(dir string) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for _, path := range sortedNames(f.names) {
		if filepath.Dir(path) == filepath.Clean(dir) {
			names = append(names, filepath.Base(path))
		}
	}
	return names, nil
}

// OpenFile opens, makes or empties a file.
func (f *FaultFS) OpenFile(name string, flag int, _ fs.FileMode) (spool.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.names[name]
	switch {
	case n == nil && flag&os.O_CREATE == 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	case n == nil && f.space == 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.ENOSPC}
	case n == nil:
		n = &inode{}
		f.names[name] = n
	case flag&os.O_TRUNC != 0:
		n.apply(change{cut: true})
	}
	return &file{fs: f, node: n, name: name}, nil
}

// Rename replaces newName by oldName; durable after SyncDir.
func (f *FaultFS) Rename(oldName, newName string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.names[oldName]
	if n == nil {
		return &fs.PathError{Op: "rename", Path: oldName, Err: fs.ErrNotExist}
	}
	delete(f.names, oldName)
	f.names[newName] = n
	return nil
}

// Remove removes a name; durable after SyncDir. The space of the file becomes free.
func (f *FaultFS) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.names[name]
	if n == nil {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	delete(f.names, name)
	if f.space >= 0 {
		f.space += int64(len(n.data))
	}
	return nil
}

// SyncDir makes the names in dir durable.
func (f *FaultFS) SyncDir(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.countSync(); err != nil {
		return err
	}
	inDir := func(path string, _ *inode) bool { return filepath.Dir(path) == filepath.Clean(dir) }
	maps.DeleteFunc(f.durable, inDir)
	for path, n := range f.names {
		if inDir(path, n) {
			f.durable[path] = n
		}
	}
	return nil
}

// Lock is held until Close, Kill or Crash.
func (f *FaultFS) Lock(name string) (io.Closer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.locks[name] {
		return nil, fmt.Errorf("directory %s is in use by process %d", filepath.Dir(name), os.Getpid())
	}
	f.locks[name] = true
	return unlocker(func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.locks, name)
		return nil
	}), nil
}

type unlocker func() error

func (u unlocker) Close() error { return u() }

// countSync counts one fsync and tells whether it fails. The caller holds mu.
func (f *FaultFS) countSync() error {
	f.syncs++
	if f.syncs == f.failSync {
		return &fs.PathError{Op: "sync", Path: "disk", Err: syscall.EIO}
	}
	return nil
}
