package exchangelog

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"syscall"
	"time"
)

// output is the side of a Writer that talks to files; only run touches it, and Start before.
type output struct {
	spare   []byte // the buffer that is not filled now
	pending []byte // what of it is still to be written: whole lines. The buffer is not given back before all of it is.
	file    file   // nil: the next line begins one
	name    string
	begun   time.Time // of file, with the monotonic clock
	size    int64     // of file: whole lines only
	newest  time.Time // beginning of the newest file of the stream, as its name has it
	last    error     // of the last round; read by Stop after run has ended
}

// nameTries bounds the search for a file name that nobody has.
const nameTries = 100

// prepare makes the directory and, when the journal is on, the first file, so that a wrong directory shows at once.
func (w *Writer) prepare() error {
	if err := w.store.makeDir(w.cfg.Dir); err != nil {
		return err
	}
	files, err := w.store.list(w.cfg.Dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.stream == w.stream && f.begun.After(w.out.newest) {
			w.out.newest = f.begun
		}
	}
	if !w.on.Load() {
		return nil
	}
	err = w.beginFile()
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		w.failed(err)
		return nil
	}
	return err
}

// run writes until Stop.
func (w *Writer) run() {
	defer close(w.done)
	defer w.metrics.unregister()
	due := time.NewTimer(retryDelay)
	defer due.Stop()
	house := time.NewTicker(houseTime)
	defer house.Stop()
	w.keepHouse()
	for {
		var reply chan error
		select {
		case <-w.first:
			due.Reset(writeDelay)
			continue
		case <-house.C:
			w.keepHouse()
			continue
		case <-due.C:
		case <-w.many:
		case reply = <-w.flush:
		case <-w.stop:
			w.finish()
			return
		}
		err := w.round()
		if err != nil {
			due.Reset(retryDelay)
		}
		if reply != nil {
			reply <- err
		}
	}
}

// round writes what an earlier round could not, and then what waits now. It does not look again after that, so that lines come together
// for the next round.
func (w *Writer) round() error {
	err := w.write()
	if err == nil {
		taken := w.take(w.out.spare)
		w.out.spare, w.out.pending = taken, taken
		err = w.write()
	}
	if err != nil {
		w.failed(err)
		return fmt.Errorf("exchange journal in %s cannot be written (free space or mend the disk): %w", w.cfg.Dir, err)
	}
	return nil
}

// finish writes what it can, and counts the rest.
func (w *Writer) finish() {
	if err := w.round(); err != nil {
		w.mu.Lock()
		lost := linesIn(w.out.pending) + linesIn(w.active)
		w.mu.Unlock()
		w.metrics.lost[Disk].Add(float64(lost))
		w.out.last = fmt.Errorf("the last %d lines are lost: %w", lost, err)
	}
	w.endFile()
}

// write writes the pending lines, in new files where one is full.
func (w *Writer) write() error {
	for len(w.out.pending) > 0 {
		if w.out.file == nil {
			if err := w.beginFile(); err != nil {
				return err
			}
			w.keepHouse()
		}
		part := wholeLines(w.out.pending[:min(int64(len(w.out.pending)), max(0, w.cfg.FileBytes-w.out.size))])
		if len(part) == 0 {
			w.endFile()
			continue
		}
		n, err := w.out.file.Write(part)
		written := wholeLines(part[:n])
		w.out.size += int64(len(written))
		w.out.pending = w.out.pending[len(written):]
		w.metrics.bytes.Add(float64(len(written)))
		w.metrics.records.Add(float64(linesIn(written)))
		if err != nil {
			w.giveUpFile(n > len(written))
			return err
		}
		w.wrote()
	}
	return nil
}

func wholeLines(b []byte) []byte { return b[:bytes.LastIndexByte(b, '\n')+1] }

// giveUpFile leaves a file that could not be written. A torn line is cut off; where even that fails, readers skip it. An empty
// file is removed, so that a full disk does not fill the directory with them.
func (w *Writer) giveUpFile(torn bool) {
	if torn {
		if err := w.out.file.Truncate(w.out.size); err != nil {
			w.metrics.failures.Inc()
		}
	}
	w.endFile()
}

// failed notes an error of the files; only the first of a row is logged.
func (w *Writer) failed(err error) {
	w.metrics.failures.Inc()
	if !w.failing.Swap(true) {
		w.cfg.Log.Error("HSM exchange journal cannot be written; it is tried again every second, and what cannot be held is counted: free space or mend the disk",
			slog.String("dir", w.cfg.Dir), slog.Any("cause", err))
	}
}

func (w *Writer) wrote() {
	if w.failing.Swap(false) {
		w.cfg.Log.Info("HSM exchange journal is written again", slog.String("dir", w.cfg.Dir))
	}
}

// beginFile makes a file whose name sorts behind all others of the stream, also when the clock was set back.
func (w *Writer) beginFile() error {
	begun := time.Now()
	stamp := begun.UTC().Truncate(time.Microsecond)
	for range nameTries {
		if !stamp.After(w.out.newest) {
			stamp = w.out.newest.Add(time.Microsecond)
		}
		w.out.newest = stamp
		name := fileName(stamp, w.stream)
		f, err := w.store.create(w.path(name))
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		w.out.file, w.out.name, w.out.begun, w.out.size = f, name, begun, 0
		return nil
	}
	return fmt.Errorf("no free file name at %s: is another journal with the same group and instance writing here?", fileName(stamp, w.stream))
}

// endFile closes the file; an empty one is removed.
func (w *Writer) endFile() {
	if w.out.file == nil {
		return
	}
	err := w.out.file.Close()
	w.out.file = nil
	if w.out.size == 0 {
		err = errors.Join(err, w.store.remove(w.path(w.out.name)))
	}
	if err != nil {
		w.metrics.failures.Inc()
		w.cfg.Log.Warn("HSM exchange journal: close a file", slog.String("file", w.out.name), slog.Any("cause", err))
	}
}
