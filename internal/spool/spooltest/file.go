package spooltest

import (
	"io"
	"io/fs"
	"strings"
	"syscall"

	"github.com/keyward/keyward/internal/spool"
)

// file is an open file of a FaultFS.
type file struct {
	fs     *FaultFS
	node   *inode
	name   string
	closed bool
}

var _ spool.File = (*file)(nil)

func (f *file) check(op string) error {
	if f.closed {
		return &fs.PathError{Op: op, Path: f.name, Err: fs.ErrClosed}
	}
	return nil
}

// WriteAt changes the cached content. When space runs out it writes a prefix and returns ENOSPC.
func (f *file) WriteAt(b []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check("write"); err != nil {
		return 0, err
	}
	full := false
	if grow := off + int64(len(b)) - int64(len(f.node.data)); f.fs.space >= 0 && grow > 0 {
		if grow > f.fs.space {
			b, full = b[:max(0, int64(len(b))-(grow-f.fs.space))], true
			grow = f.fs.space
		}
		f.fs.space -= grow
	}
	if len(b) > 0 {
		f.node.apply(change{off: off, data: append([]byte{}, b...)})
	}
	if full {
		return len(b), &fs.PathError{Op: "write", Path: f.name, Err: syscall.ENOSPC}
	}
	return len(b), nil
}

// ReadAt reads the cached content.
func (f *file) ReadAt(b []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check("read"); err != nil {
		return 0, err
	}
	if f.fs.readErr != nil {
		return 0, &fs.PathError{Op: "read", Path: f.name, Err: f.fs.readErr}
	}
	if off >= int64(len(f.node.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.node.data[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// Truncate changes the cached length and frees space.
func (f *file) Truncate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check("truncate"); err != nil {
		return err
	}
	if freed := int64(len(f.node.data)) - size; f.fs.space >= 0 && freed > 0 {
		f.fs.space += freed
	}
	f.node.apply(change{off: size, cut: true})
	return nil
}

// Sync makes durable what was written before it was called, and nothing written while it waits at the gate: the
// least that an fsync promises.
func (f *file) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check("sync"); err != nil {
		return err
	}
	n := len(f.node.dirty)
	if gate := f.fs.gate; gate != nil && strings.HasSuffix(f.name, f.fs.held) {
		select {
		case f.fs.entered <- struct{}{}:
		default: // The test does not count that many.
		}
		f.fs.mu.Unlock()
		<-gate
		f.fs.mu.Lock()
		n = min(n, len(f.node.dirty))
	}
	err := f.fs.countSync()
	if err == nil {
		f.node.durable = replay(f.node.durable, f.node.dirty[:n])
		f.node.dirty = append([]change{}, f.node.dirty[n:]...)
		return nil
	}
	if f.fs.fault != StayDirty {
		f.node.dirty = append([]change{}, f.node.dirty[n:]...)
	}
	if f.fs.fault == Forget {
		f.node.data = replay(f.node.durable, f.node.dirty)
	}
	return err
}

// Close ends the use of the handle; what is dirty stays so.
func (f *file) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check("close"); err != nil {
		return err
	}
	f.closed = true
	return nil
}

// Size returns the cached length.
func (f *file) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return int64(len(f.node.data)), f.check("stat")
}

// apply makes a change in the page cache.
func (n *inode) apply(c change) {
	n.data = applyTo(n.data, c)
	n.dirty = append(n.dirty, c)
}

// replay returns a copy of b with the changes made.
func replay(b []byte, changes []change) []byte {
	b = append([]byte{}, b...)
	for _, c := range changes {
		b = applyTo(b, c)
	}
	return b
}

// applyTo makes one change in place; a hole reads as zeros.
func applyTo(b []byte, c change) []byte {
	end := c.off + int64(len(c.data))
	if grow := end - int64(len(b)); grow > 0 {
		b = append(b, make([]byte, grow)...)
	}
	if c.cut {
		return b[:c.off]
	}
	copy(b[c.off:], c.data)
	return b
}
