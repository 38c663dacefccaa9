package exchangelog

import (
	"errors"
	"io/fs"
	"log/slog"
	"time"
)

// keepHouse ends a file that is old, and removes files beyond the bounds.
func (w *Writer) keepHouse() {
	if w.out.file != nil && w.out.size > 0 && time.Since(w.out.begun) >= w.cfg.FileAge {
		w.endFile()
	}
	files, err := w.store.list(w.cfg.Dir)
	if err != nil {
		w.failed(err)
		return
	}
	var own []journalFile
	there := false // the file that is written now
	for _, f := range files {
		if f.stream != w.stream {
			continue
		}
		if w.out.file != nil && f.name == w.out.name {
			there = true
			continue
		}
		own = append(own, f)
	}
	if w.out.file != nil && !there {
		w.cfg.Log.Warn("HSM exchange journal: the file that was being written has been removed; a new one is begun", slog.String("file", w.out.name))
		w.out.size = 1 // whatever it has, it is not to be removed again
		w.endFile()
	}
	kept := len(own)
	for _, f := range surplus(own, w.cfg, time.Now()) {
		if err := w.store.remove(w.path(f.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			w.metrics.failures.Inc()
			w.cfg.Log.Warn("HSM exchange journal: remove an old file", slog.String("file", f.name), slog.Any("cause", err))
			continue
		}
		kept--
		w.metrics.removed.Inc()
	}
	if w.out.file != nil {
		kept++
	}
	w.metrics.files.Set(float64(kept))
}

// surplus gives the files that must go, oldest first. closed are those that are not written any more; the one that is counts with its full size.
func surplus(closed []journalFile, cfg Config, now time.Time) []journalFile {
	count, total := len(closed)+1, cfg.FileBytes
	for _, f := range closed {
		total += f.bytes
	}
	for i, f := range closed {
		// The last record of a file came FileAge after its beginning at the latest.
		if count <= cfg.KeepFiles && total <= cfg.KeepBytes && now.Sub(f.begun) <= cfg.KeepAge+cfg.FileAge {
			return closed[:i]
		}
		count--
		total -= f.bytes
	}
	return closed
}
