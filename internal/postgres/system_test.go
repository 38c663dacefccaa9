package postgres

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func hasDeathSignal() bool { return runtime.GOOS == "linux" }

// TestClosedParentMovesTheData: as root, a directory that the database user cannot reach is replaced and said so.
func TestClosedParentMovesTheData(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root: an ordinary user runs the database as oneself")
	}
	parent := tempDir(t)
	if err := os.Chmod(parent, 0o700); err != nil {
		t.Fatal(err)
	}
	wished := filepath.Join(parent, "db")
	s := start(t, Config{Dir: wished, Fast: true})
	t.Cleanup(func() { _ = os.RemoveAll(s.dir) })
	if !strings.HasPrefix(s.DataDir(), sharedRoot) || !strings.Contains(s.Notice(), wished) || !strings.Contains(s.Notice(), s.dir) {
		t.Errorf("data in %s, notice %q", s.DataDir(), s.Notice())
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again := start(t, Config{Dir: wished, Fast: true}); again.dir != s.dir {
		t.Errorf("second start in %s, first in %s", again.dir, s.dir)
	}
}

// TestUnwritableDirectory: a place where nothing can be written gives a sentence with the next step.
func TestUnwritableDirectory(t *testing.T) {
	t.Parallel()
	place := "/proc/keyward"
	if _, err := os.Stat("/proc/self"); err != nil {
		place = "/System/keyward" // closed on macOS
	}
	_, err := Start(t.Context(), Config{Dir: place})
	if err == nil || !strings.Contains(err.Error(), place) {
		t.Errorf("error %v", err)
	}
}

// TestFullDisk mounts a small disk, which needs root on Linux.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 || runtime.GOOS != "linux" {
		t.Skip("needs root on Linux to mount a small disk")
	}
	dir := tempDir(t)
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=8m,mode=755", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("cannot mount a small disk: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	s, err := Start(t.Context(), Config{Dir: filepath.Join(dir, "db")})
	if err == nil {
		_ = s.Stop(context.Background())
		t.Fatal("started on a full disk")
	}
	if !strings.Contains(err.Error(), "the disk is full: free some space") {
		t.Errorf("error %q", err)
	}
}
