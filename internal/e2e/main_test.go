// Package e2e tests the whole system as it is used: the built programs, run by "keyward dev" in a directory of its own, and the
// commands of people and terminals. It then searches everything that the system wrote for secrets.
package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
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
	out, err := exec.Command("go", "build", "-o", dir+string(filepath.Separator), "../../cmd/...", "../../sim/pos/cmd/pos").CombinedOutput()
	if err != nil {
		return dir, fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return dir, nil
})

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
