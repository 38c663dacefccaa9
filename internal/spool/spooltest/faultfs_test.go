package spooltest

import (
	"bytes"
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/keyward/keyward/internal/spool"
)

func create(t *testing.T, f *FaultFS, name string) spool.File {
	t.Helper()
	h, err := f.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	return h
}

func write(t *testing.T, h spool.File, off int64, b []byte) {
	t.Helper()
	_, err := h.WriteAt(b, off)
	must(t, err)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestCrashModes(t *testing.T) {
	t.Parallel()
	synced, later := bytes.Repeat([]byte("s"), 700), bytes.Repeat([]byte("l"), 5000)
	var torn, holed bool
	for seed := range uint64(50) {
		f := New(seed)
		h := create(t, f, "/d/a")
		write(t, h, 0, synced)
		must(t, h.Sync())
		must(t, f.SyncDir("/d"))
		write(t, h, 700, later)
		if got := f.Kill().Content("/d/a"); len(got) != 5700 {
			t.Fatalf("kill lost data: %d bytes", len(got))
		}
		if got := f.Kill().Crash(Drop).Content("/d/a"); !bytes.Equal(got, synced) {
			t.Fatalf("drop after kill: %d bytes", len(got))
		}
		for _, mode := range Modes {
			after := f.Crash(mode)
			got := after.Content("/d/a")
			if !bytes.HasPrefix(got, synced) || after.BootID() == f.BootID() {
				t.Fatalf("%v: synced data lost", mode)
			}
			switch mode {
			case Drop:
				if len(got) != 700 {
					t.Fatalf("drop: %d bytes", len(got))
				}
			case Keep:
				if len(got) != 5700 {
					t.Fatalf("keep: %d bytes", len(got))
				}
			case Tear:
				torn = torn || len(got) > 700 && len(got) < 5700 && !bytes.Contains(got, []byte{0})
			case Reorder:
				holed = holed || bytes.Contains(got, []byte{0}) && got[len(got)-1] == 'l'
			}
		}
	}
	if !torn || !holed {
		t.Errorf("in 50 seeds: torn %v, later kept and earlier lost %v", torn, holed)
	}
}

func TestNamesNeedSyncDir(t *testing.T) {
	t.Parallel()
	f := New(1)
	must(t, create(t, f, "/d/old").Sync())
	must(t, f.SyncDir("/d"))
	must(t, create(t, f, "/d/new").Sync())
	must(t, f.Remove("/d/old"))
	if got := f.Crash(Drop).Names(); len(got) != 1 || got[0] != "/d/old" {
		t.Errorf("dropped: %v", got)
	}
	if got := f.Crash(Keep).Names(); len(got) != 1 || got[0] != "/d/new" {
		t.Errorf("kept: %v", got)
	}
	must(t, f.Rename("/d/new", "/d/other"))
	must(t, f.SyncDir("/d"))
	if got := f.Crash(Drop).Names(); len(got) != 1 || got[0] != "/d/other" {
		t.Errorf("after SyncDir: %v", got)
	}
}

func TestInjectedErrors(t *testing.T) {
	t.Parallel()
	f := New(1)
	h := create(t, f, "/d/a")
	f.SetSpace(10)
	if n, err := h.WriteAt(make([]byte, 25), 0); n != 10 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("full disk: %d, %v", n, err)
	}
	must(t, h.Truncate(0))
	write(t, h, 0, make([]byte, 10))
	f.SetSpace(-1)
	must(t, h.Sync())
	write(t, h, 10, make([]byte, 10))
	f.FailSync(2, Forget)
	must(t, f.SyncDir("/d"))
	if err := h.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("second fsync: %v", err)
	}
	must(t, h.Sync())
	if size, _ := h.Size(); size != 10 {
		t.Errorf("%d bytes: the failed fsync kept the dirty data", size)
	}
	write(t, h, 10, make([]byte, 5))
	f.FailSync(1, MarkClean)
	if err := h.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("third fsync: %v", err)
	}
	must(t, h.Sync())
	if now, later := len(f.Content("/d/a")), len(f.Crash(Keep).Content("/d/a")); now != 15 || later != 10 {
		t.Errorf("%d bytes to be read, %d on the disk", now, later)
	}
	f.FailReads(syscall.EIO)
	if _, err := h.ReadAt(make([]byte, 1), 0); !errors.Is(err, syscall.EIO) {
		t.Errorf("read: %v", err)
	}
	must(t, h.Close())
	if err := h.Sync(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("sync after close: %v", err)
	}
}
