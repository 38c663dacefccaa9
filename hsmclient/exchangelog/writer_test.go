package exchangelog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// badDisk is the operating system's files with a disk that can be full or broken.
type badDisk struct {
	osStore
	mu       sync.Mutex
	space    int64 // bytes left; below 0: no end
	broken   error // of creating and truncating
	creating int   // how often a file was asked for
}

func (d *badDisk) set(space int64, broken error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.space, d.broken = space, broken
}

func (d *badDisk) create(path string) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.creating++
	if d.broken != nil {
		return nil, d.broken
	}
	f, err := d.osStore.create(path)
	return &badFile{file: f, disk: d}, err
}

type badFile struct {
	file
	disk *badDisk
}

func (f *badFile) Write(b []byte) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.disk.space < 0 {
		return f.file.Write(b)
	}
	part := b[:min(int64(len(b)), f.disk.space)]
	n, err := f.file.Write(part)
	f.disk.space -= int64(n)
	if err == nil && n < len(b) {
		err = syscall.ENOSPC
	}
	return n, err
}

func (f *badFile) Truncate(size int64) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.disk.broken != nil {
		return f.disk.broken
	}
	return f.file.Truncate(size)
}

// journal starts a writer in a new directory, which it stops at the end of the test. It must be called inside a bubble of synctest where
// the test moves the clock.
func journal(t *testing.T, cfg Config, disk store) *Writer {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = filepath.Join(t.TempDir(), "journal")
	}
	cfg.Group, cfg.Instance = "online", "posp-1"
	w, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if disk != nil {
		w.store = disk
	}
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, w) })
	return w
}

func stop(t *testing.T, w *Writer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
	defer cancel()
	if err := w.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
}

func flush(t *testing.T, w *Writer) {
	t.Helper()
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// files lists the directory.
func files(t *testing.T, dir string) (list []journalFile) {
	t.Helper()
	list, err := osStore{}.list(dir)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// whole reads everything that is there now.
func whole(t *testing.T, dir string) (list []Entry) {
	t.Helper()
	for e, err := range Read(t.Context(), dir, Filter{}, false) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, e)
	}
	return list
}

// counts gives the counters of the exchanges, and "gap disk 3" and "damage 1 torn" for the rest.
func counts(list []Entry) string {
	var b strings.Builder
	var first, last uint64
	end := func() {
		if first > 0 {
			fmt.Fprintf(&b, "%d-%d ", first, last)
		}
		first = 0
	}
	for _, e := range list {
		switch {
		case e.Gap != nil:
			end()
			fmt.Fprintf(&b, "gap %s %d ", e.Gap.Why, e.Gap.Lost)
		case e.Damage != nil:
			end()
			fmt.Fprintf(&b, "damage %d %v ", e.Damage.Lines, e.Damage.Torn)
		default:
			if n := e.Exchange.Serial.count; first == 0 || n != last+1 {
				end()
				first = n
			}
			last = e.Exchange.Serial.count
		}
	}
	end()
	return strings.TrimSpace(b.String())
}

func wantCounts(t *testing.T, dir, want string) {
	t.Helper()
	if got := counts(whole(t, dir)); got != want {
		t.Errorf("the journal holds %q, want %q", got, want)
	}
}

// record makes exchanges from..to.
func record(w *Writer, from, to uint64) {
	for n := from; n <= to; n++ {
		w.Record(exchange(n))
	}
}

func TestFilesAndModes(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	w := journal(t, Config{Registerer: registry}, nil)
	record(w, 1, 10)
	flush(t, w)
	wantCounts(t, w.cfg.Dir, "1-10")
	info, err := os.Stat(w.cfg.Dir)
	if err != nil || info.Mode().Perm() != dirMode {
		t.Errorf("directory %v %v", info.Mode(), err)
	}
	list := files(t, w.cfg.Dir)
	if len(list) != 1 || list[0].stream != "online@posp-1" || time.Since(list[0].begun) > time.Hour {
		t.Fatalf("%+v", list)
	}
	if info, err = os.Stat(w.path(list[0].name)); err != nil || info.Mode().Perm() != fileMode {
		t.Errorf("file %v %v", info.Mode(), err)
	}
	if v := testutil.ToFloat64(w.metrics.records); v != 10 {
		t.Errorf("%v records counted", v)
	}
	if n, err := testutil.GatherAndCount(registry, "keyward_hsm_journal_lost_total", "keyward_hsm_journal_on"); n != 4 || err != nil {
		t.Errorf("%d series, %v", n, err)
	}
	stop(t, w)
	stop(t, w)
	record(w, 11, 11) // too late, and harmless
	wantCounts(t, w.cfg.Dir, "1-10")
	if err := w.Flush(t.Context()); err == nil {
		t.Error("flushed after the stop")
	}
	if err := w.Start(t.Context()); err == nil {
		t.Error("started after the stop")
	}
	if n, err := testutil.GatherAndCount(registry); n != 0 || err != nil {
		t.Errorf("%d series are left, %v", n, err)
	}
}

// A line comes without a flush too, and many lines at once.
func TestLinesComeByThemselves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := journal(t, Config{}, nil)
		record(w, 1, 1)
		time.Sleep(writeDelay + time.Millisecond)
		synctest.Wait()
		wantCounts(t, w.cfg.Dir, "1-1")
		record(w, 2, 2+writeSize/150)
		synctest.Wait() // no time passes
		if n := len(whole(t, w.cfg.Dir)); n < 1000 {
			t.Errorf("%d lines are written, although many wait", n)
		}
		time.Sleep(writeDelay + time.Millisecond)
		synctest.Wait()
		wantCounts(t, w.cfg.Dir, fmt.Sprintf("1-%d", 2+writeSize/150))
	})
}

func TestRotation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := journal(t, Config{FileBytes: minFileBytes, FileAge: time.Hour}, nil)
		record(w, 1, 1000) // 203 KB in one go
		flush(t, w)
		list := files(t, w.cfg.Dir)
		if len(list) != 4 {
			t.Errorf("%d files for 203 KB", len(list))
		}
		for _, f := range list {
			if f.bytes > minFileBytes || f.bytes == 0 {
				t.Errorf("%s has %d bytes", f.name, f.bytes)
			}
		}
		time.Sleep(time.Hour - time.Minute)
		record(w, 1001, 1001)
		flush(t, w)
		if again := files(t, w.cfg.Dir); len(again) != 4 {
			t.Errorf("%d files before the hour is over", len(again))
		}
		time.Sleep(2 * time.Minute)
		record(w, 1002, 1002)
		flush(t, w)
		if again := files(t, w.cfg.Dir); len(again) != 5 {
			t.Errorf("%d files after the hour", len(again))
		}
		time.Sleep(10 * time.Hour) // idle: nothing is made
		synctest.Wait()
		if again := files(t, w.cfg.Dir); len(again) != 5 {
			t.Errorf("%d files after idle hours", len(again))
		}
		wantCounts(t, w.cfg.Dir, "1-1002")
	})
}

// A clock that is set back must not bring the files out of order.
func TestNamesRise(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Chmod(dir, dirMode); err != nil {
			t.Fatal(err)
		}
		later := fileName(time.Now().Add(time.Hour), "online@posp-1")
		e := exchange(1)
		line, _ := appendExchange(nil, &e)
		if err := os.WriteFile(filepath.Join(dir, later), line, fileMode); err != nil {
			t.Fatal(err)
		}
		w := journal(t, Config{Dir: dir, FileBytes: minFileBytes}, nil)
		record(w, 2, 1000)
		flush(t, w)
		wantCounts(t, dir, "1-1000")
		if list := files(t, dir); list[0].name != later || len(list) != 5 {
			t.Errorf("%+v", list)
		}
	})
}

// Two journals of the same name, by mistake, at the same moment: each has its own file.
func TestTwoWriters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := journal(t, Config{}, nil)
		other, err := New(w.cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := other.beginFile(); err != nil {
			t.Fatal(err)
		}
		if n := len(files(t, w.cfg.Dir)); n != 2 {
			t.Errorf("%d files", n)
		}
		other.endFile()
	})
}

func TestRetention(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := journal(t, Config{FileBytes: minFileBytes, FileAge: time.Hour, KeepFiles: 4, KeepBytes: 3 * minFileBytes, KeepAge: 24 * time.Hour}, nil)
		other := filepath.Join(w.cfg.Dir, fileName(time.Now().Add(-1000*time.Hour), "issuing@posp-1"))
		for _, path := range []string{other, filepath.Join(w.cfg.Dir, "notes.txt")} {
			if err := os.WriteFile(path, nil, fileMode); err != nil {
				t.Fatal(err)
			}
		}
		record(w, 1, 2000) // 380 KB
		flush(t, w)
		var bytes int64
		own := files(t, w.cfg.Dir)[1:]
		for _, f := range own {
			bytes += f.bytes
		}
		if bytes > w.cfg.KeepBytes || len(own) != 3 {
			t.Errorf("%d files with %d bytes are kept, limit %d", len(own), bytes, w.cfg.KeepBytes)
		}
		for n := uint64(2001); n <= 2010; n++ { // small files
			time.Sleep(time.Hour)
			record(w, n, n)
			flush(t, w)
		}
		if n := len(files(t, w.cfg.Dir)) - 1; n != 4 {
			t.Errorf("%d files are kept, limit 4", n)
		}
		wantCounts(t, w.cfg.Dir, "2007-2010")
		time.Sleep(23 * time.Hour) // idle: the first three were begun 26, 25 and 24 hours ago
		synctest.Wait()
		wantCounts(t, w.cfg.Dir, "2008-2010")
		time.Sleep(10 * time.Hour)
		synctest.Wait()
		wantCounts(t, w.cfg.Dir, "")
		for _, path := range []string{other, filepath.Join(w.cfg.Dir, "notes.txt")} {
			if _, err := os.Stat(path); err != nil {
				t.Errorf("not ours, and gone: %v", err)
			}
		}
		record(w, 2011, 2011)
		flush(t, w)
		wantCounts(t, w.cfg.Dir, "2011-2011")
	})
}

// Somebody removes the file that is being written: the journal notices within a minute.
func TestFileRemovedUnderneath(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := journal(t, Config{}, nil)
		record(w, 1, 1)
		flush(t, w)
		if err := os.Remove(w.path(files(t, w.cfg.Dir)[0].name)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(houseTime + time.Millisecond)
		synctest.Wait()
		record(w, 2, 2)
		flush(t, w)
		wantCounts(t, w.cfg.Dir, "2-2")
	})
}

func TestSwitch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := journal(t, Config{Off: true}, nil)
		if w.On() || len(files(t, w.cfg.Dir)) != 0 {
			t.Error("a journal that is off has a file")
		}
		w.Switch(true)
		record(w, 1, 3)
		w.Switch(false)
		w.Switch(false)
		record(w, 4, 6)
		time.Sleep(time.Minute)
		w.Switch(true)
		record(w, 7, 7)
		w.Switch(false)
		record(w, 8, 9)
		stop(t, w)
		wantCounts(t, w.cfg.Dir, "1-3 gap off 3 7-7 gap off 2")
		gap := whole(t, w.cfg.Dir)[3].Gap
		if gap.To.Sub(gap.From) != time.Minute || gap.Group != "online" {
			t.Errorf("%+v", gap)
		}
		if v := testutil.ToFloat64(w.metrics.lost[Off]); v != 5 {
			t.Errorf("%v counted", v)
		}
	})
}

// More than the buffers hold comes while the disk is full: what is lost is counted and said where it is missing, nothing else is lost.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	for _, truncates := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			disk := &badDisk{space: 1000} // four lines and a torn one
			w := journal(t, Config{}, disk)
			record(w, 1, 10)
			if !truncates {
				disk.set(1000, syscall.EIO) // the torn line stays
			}
			if err := w.Flush(t.Context()); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "free space") {
				t.Errorf("flush on a full disk: %v", err)
			}
			wantCounts(t, w.cfg.Dir, "1-4")
			const fill = maxBuffered/150 + 1000
			record(w, 11, fill)
			time.Sleep(time.Minute)
			synctest.Wait()
			if n := len(files(t, w.cfg.Dir)); n != 1 {
				t.Errorf("%d files: tries on a full disk leave files", n)
			}
			disk.set(-1, nil)
			time.Sleep(retryDelay)
			synctest.Wait()
			record(w, fill+1, fill+5)
			stop(t, w)
			var lost uint64
			var text []string
			for _, e := range whole(t, w.cfg.Dir) {
				if e.Gap != nil {
					lost += e.Gap.Lost
					text = append(text, string(e.Gap.Why))
				}
				if e.Damage != nil {
					text = append(text, fmt.Sprint("torn ", e.Damage.Torn))
				}
			}
			want := "disk"
			if !truncates {
				want = "torn true disk"
			}
			if got := strings.Join(text, " "); got != want || lost == 0 {
				t.Errorf("the journal says %q, %d lost", got, lost)
			}
			list := whole(t, w.cfg.Dir)
			if n := uint64(len(list) - len(text)); n+lost != fill+5 {
				t.Errorf("%d lines and %d lost are not %d", n, lost, fill+5)
			}
			if v := testutil.ToFloat64(w.metrics.lost[Disk]); v != float64(lost) {
				t.Errorf("%v counted, %d in the gap", v, lost)
			}
			gap := list[len(list)-6]
			if gap.Gap == nil || list[len(list)-5].Exchange.Serial.count != fill+1 || !gap.Gap.To.After(gap.Gap.From) {
				t.Errorf("the gap is not where lines are missing: %s", counts(list))
			}
		})
	}
}

// The disk is still full at the stop: Stop says so, and how much.
func TestStopOnFullDisk(t *testing.T) {
	t.Parallel()
	disk := &badDisk{space: 0}
	w, err := New(Config{Dir: t.TempDir() + "/j", Group: "online", Instance: "posp-1"})
	if err != nil {
		t.Fatal(err)
	}
	w.store = disk
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	record(w, 1, 7)
	if err := w.Stop(t.Context()); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "last 7 lines") {
		t.Error(err)
	}
	if n := len(files(t, w.cfg.Dir)); n != 0 {
		t.Errorf("%d empty files are left", n)
	}
}

// A full disk at the start is waited for; anything else is a wrong configuration.
func TestStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := &badDisk{space: -1, broken: syscall.ENOSPC}
		w := journal(t, Config{}, disk)
		record(w, 1, 3)
		time.Sleep(10 * retryDelay)
		disk.set(-1, nil)
		time.Sleep(retryDelay)
		synctest.Wait()
		wantCounts(t, w.cfg.Dir, "1-3")
		if disk.creating < 5 {
			t.Errorf("only %d tries in ten seconds", disk.creating)
		}
	})
	dir := t.TempDir()
	plain := filepath.Join(dir, "file")
	open := filepath.Join(dir, "open")
	if err := errors.Join(os.WriteFile(plain, nil, 0o600), os.Mkdir(open, 0o700), os.Chmod(open, 0o777)); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []struct{ dir, want string }{{plain, "not a directory"}, {open, "chmod 700"}} {
		w, err := New(Config{Dir: bad.dir, Group: "online", Instance: "posp-1"})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Start(t.Context()); err == nil || !strings.Contains(err.Error(), bad.want) || !strings.Contains(err.Error(), "check the directory") {
			t.Errorf("%s: %v", bad.dir, err)
		}
		stop(t, w)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for want, cfg := range map[string]Config{
		"no directory":         {Group: "online", Instance: "a"},
		"group \"\"":           {Dir: "x", Instance: "a"},
		"instance \"a/b\"":     {Dir: "x", Group: "online", Instance: "a/b"},
		"file size 1000":       {Dir: "x", Group: "online", Instance: "a", FileBytes: 1000},
		"file age 1s":          {Dir: "x", Group: "online", Instance: "a", FileAge: time.Second},
		"1 files kept":         {Dir: "x", Group: "online", Instance: "a", KeepFiles: 1},
		"100 bytes kept":       {Dir: "x", Group: "online", Instance: "a", KeepBytes: 100},
		"records kept for 1h0": {Dir: "x", Group: "online", Instance: "a", KeepAge: time.Hour},
	} {
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want %q", cfg, err, want)
		}
	}
	if _, err := New(Config{Dir: "x", Group: "online", Instance: "a", FileBytes: maxFileBytes, FileAge: 99 * 24 * time.Hour}); err != nil {
		t.Errorf("the defaults do not follow: %v", err)
	}
}
