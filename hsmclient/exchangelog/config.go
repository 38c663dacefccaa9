package exchangelog

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Defaults and limits. A line has about 200 bytes, so that a device with a licence for 2500 commands a second fills a default file in
// two minutes and the default of all files in two and a half hours at full load.
const (
	defaultFileBytes = 64 << 20
	// minFileBytes is room for some lines, so that files do not change at every one.
	minFileBytes = 64 << 10
	// maxFileBytes is what people can still open in an editor or send somewhere.
	maxFileBytes   = 1 << 30
	defaultFileAge = 24 * time.Hour
	// minFileAge keeps the number of files within reason.
	minFileAge       = time.Minute
	defaultKeepFiles = 1000
	defaultKeepBytes = 4 << 30
	defaultKeepAge   = 30 * 24 * time.Hour
)

// Config is the setting of one journal. Only Dir, Group and Instance are required.
type Config struct {
	// Dir holds the files; it is made with mode 0700, files have 0600. A directory of its own is best. Where several journals share
	// one, each keeps to its own files.
	Dir string
	// Group is the cluster's name and Instance the process's: both are part of the files' names. Letters, digits, dots, hyphens, underscores.
	Group, Instance string
	// Off begins with the journal switched off.
	Off bool
	// FileBytes is the size at which a new file is begun; default 64 MiB, 64 KiB to 1 GiB.
	FileBytes int64
	// FileAge is the age at which a new file is begun; default one day, at least a minute. An idle journal makes no files.
	FileAge time.Duration
	// KeepFiles, KeepBytes and KeepAge bound what is kept: the oldest file is removed when there are more files (default 1000, at least 2), when all
	// together have more bytes (default 4 GiB, at least two files), or when its last record is older (default 30 days, at least FileAge).
	KeepFiles int
	KeepBytes int64
	KeepAge   time.Duration
	// Log receives troubles with files; nil discards.
	Log *slog.Logger
	// Registerer receives the collectors; nil leaves them out.
	Registerer prometheus.Registerer
}

func orDefault[T int | int64 | time.Duration](v *T, otherwise T) {
	if *v == 0 {
		*v = otherwise
	}
}

// complete fills defaults and checks that the bounds agree. It names all faults at once.
func (c Config) complete() (Config, error) {
	orDefault(&c.FileBytes, defaultFileBytes)
	orDefault(&c.FileAge, defaultFileAge)
	orDefault(&c.KeepFiles, defaultKeepFiles)
	orDefault(&c.KeepBytes, max(defaultKeepBytes, 2*c.FileBytes))
	orDefault(&c.KeepAge, max(defaultKeepAge, c.FileAge))
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	var errs []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	need(c.Dir != "", "no directory: give the journal one of its own")
	need(isName(c.Group, maxName), "group %q: use 1 to %d letters, digits, dots, hyphens and underscores", c.Group, maxName)
	need(isName(c.Instance, maxInstance), "instance %q: use 1 to %d letters, digits, dots, hyphens and underscores", c.Instance, maxInstance)
	need(c.FileBytes >= minFileBytes && c.FileBytes <= maxFileBytes, "file size %d: use %d to %d bytes", c.FileBytes, minFileBytes, maxFileBytes)
	need(c.FileAge >= minFileAge, "file age %s: use %s or more", c.FileAge, minFileAge)
	need(c.KeepFiles >= 2, "%d files kept: keep 2 or more", c.KeepFiles)
	need(c.KeepBytes >= 2*c.FileBytes, "%d bytes kept: keep at least two files of %d", c.KeepBytes, c.FileBytes)
	need(c.KeepAge >= c.FileAge, "records kept for %s: keep them at least as long as a file is written (%s)", c.KeepAge, c.FileAge)
	if err := errors.Join(errs...); err != nil {
		return c, fmt.Errorf("exchange journal: %w", err)
	}
	return c, nil
}
