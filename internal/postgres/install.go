package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// installTimeout bounds one installation, download included.
const installTimeout = 10 * time.Minute

// debianNoCluster keeps the Debian package from making and starting a cluster of its own.
const debianNoCluster = "/etc/postgresql-common/createcluster.d/keyward.conf"

// install fetches PostgreSQL: on Debian as root from the distribution, else as an npm package. Its error says what was
// tried and what a person can do.
func install(ctx context.Context, log *slog.Logger, id identity, major string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, installTimeout, errors.New("the installation took longer than "+installTimeout.String()))
	defer cancel()
	var errs []error
	if aptUsable() {
		err := installDebian(ctx, log, major)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	err := fetchPackage(ctx, log, id, major)
	if err == nil {
		return nil
	}
	errs = append(errs, err)
	return fmt.Errorf("no usable PostgreSQL was found and installing one failed (%w): %s", errors.Join(errs...), installHint())
}

func installHint() string {
	hint := "install PostgreSQL %d or newer (%s) or set PG_BIN to the directory of initdb and postgres"
	if runtime.GOOS == "darwin" {
		return fmt.Sprintf(hint, oldestMajor, "brew install postgresql")
	}
	return fmt.Sprintf(hint, oldestMajor, "apt-get install postgresql")
}

func aptUsable() bool {
	_, err := exec.LookPath("apt-get")
	_, debian := os.Stat("/etc/debian_version")
	return err == nil && debian == nil && os.Geteuid() == 0
}

// installDebian installs the package without a running cluster. The package lists may be missing or old, so a first
// failure is answered by one update.
func installDebian(ctx context.Context, log *slog.Logger, major string) error {
	name := "postgresql"
	if major != "" {
		name += "-" + major
	}
	log.InfoContext(ctx, "installing PostgreSQL by apt-get", "package", name)
	restore, err := withoutCluster(debianNoCluster)
	if err != nil {
		return err
	}
	defer restore()
	args := []string{"install", "-y", "--no-install-recommends", name}
	if apt(ctx, args...) == nil {
		return nil
	}
	if err := apt(ctx, "update"); err != nil {
		return err
	}
	return apt(ctx, args...)
}

// withoutCluster writes the setting for postgresql-common and returns how to take it away again.
func withoutCluster(path string) (restore func(), err error) {
	if _, err := os.Lstat(path); err == nil {
		return func() {}, nil // left by a run that was killed, or wanted by somebody
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // the mode that the package uses
		return nil, explainPath("create directory", filepath.Dir(path), err)
	}
	if err := os.WriteFile(path, []byte("create_main_cluster = false\n"), 0o644); err != nil { //nolint:gosec // read by the package's scripts
		return nil, explainPath("write", path, err)
	}
	return func() { _ = os.Remove(path) }, nil
}

func apt(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-q"}, args...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("apt-get %s: %w: %s", strings.Join(args, " "), err, lastLines(string(out), 2))
	}
	return nil
}
