// Package e2e tests the whole system as it is used: the built programs, run by "keyward dev" in a directory of its own, and the
// commands of people and terminals. It then searches everything that the system wrote for secrets.
package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience bounds every wait for which nothing tighter is promised: a first start on a slow machine under the race detector.
const patience = 90 * time.Second

// programs builds all programs once and returns the directory that holds them.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "keyward-e2e-bin-")
	if err != nil {
		return "", err
	}
	if err := lookAtSources(); err != nil {
		return dir, err
	}
	out, err := exec.Command("go", "build", "-o", dir+string(filepath.Separator), "../../cmd/...", "../../sim/pos/cmd/pos").CombinedOutput()
	if err != nil {
		return dir, fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return dir, nil
})

// lookAtSources asks for every file that the programs are made of, because "go test" keeps a result until a file changes that the
// test itself has looked at, and it does not see what the compiler reads.
func lookAtSources() error {
	return filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		switch name := d.Name(); {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(name, ".") && name != ".." || name == "bin" || name == "reports"):
			return filepath.SkipDir
		case d.IsDir():
			return nil
		}
		_, err = os.Stat(path)
		return err
	})
}

var errShort = errors.New("end to end: left out with -short")

func TestMain(m *testing.M) {
	code := m.Run()
	if !testing.Short() {
		dir, _ := programs() // already built, or the tests have said why not
		_ = os.RemoveAll(dir)
	}
	http.DefaultClient.CloseIdleConnections()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
