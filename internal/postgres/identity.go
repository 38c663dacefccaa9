package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
	"time"
)

// identity is the user that the server runs as.
type identity struct {
	name     string
	uid, gid int
	dropped  bool // this process is root and must drop to the user
}

// databaseUser returns the user to run as: oneself, or as root (whom PostgreSQL refuses) the first of postgres and nobody.
// The user must stand in the passwd file, or initdb refuses it.
func databaseUser() (identity, error) {
	if os.Geteuid() != 0 {
		name := strconv.Itoa(os.Geteuid())
		if self, err := user.Current(); err == nil {
			name = self.Username
		}
		return identity{name: name, uid: os.Geteuid(), gid: os.Getegid()}, nil
	}
	for _, name := range []string{"postgres", "_postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseInt(found.Uid, 10, 64)
		gid, gidErr := strconv.ParseInt(found.Gid, 10, 64)
		if uidErr != nil || gidErr != nil || uid == 0 {
			continue
		}
		return identity{name: name, uid: int(uid), gid: int(gid), dropped: true}, nil
	}
	return identity{}, errors.New("postgres: PostgreSQL does not run as root and this machine has neither a user postgres nor nobody: add one, or run as an ordinary user")
}

// attributes returns how a child process of this user is started: in its own process group, so that Ctrl-C on the terminal
// does not reach it.
func (id identity) attributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if id.dropped {
		attr.Credential = &syscall.Credential{Uid: uint32(id.uid), Gid: uint32(id.gid)} // The ids come from the passwd file.
	}
	return attr
}

// command makes a command that runs as this user with a clean environment, so that neither secrets of this process nor PG*
// settings of the user reach the server. LC_ALL=C also keeps macOS from starting threads in the server.
func (id identity) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = id.attributes()
	cmd.Dir = "/" // the working directory of root may be closed to this user
	cmd.Env = []string{"LC_ALL=C", "TZ=UTC", "HOME=/"}
	for _, key := range []string{"PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"} {
		if value := os.Getenv(key); value != "" {
			cmd.Env = append(cmd.Env, key+"="+value)
		}
	}
	return cmd
}

// own gives a path to this user, when this process may.
func (id identity) own(path string) error {
	if !id.dropped {
		return nil
	}
	if err := os.Lchown(path, id.uid, id.gid); err != nil {
		return fmt.Errorf("postgres: give %s to user %s: %w", path, id.name, err)
	}
	return nil
}

// canUse tells whether this user can enter and write the directory, by trying as that user: mode bits alone miss access
// lists and read-only mounts.
func (id identity) canUse(ctx context.Context, dir string) bool {
	ctx, cancel := probe(ctx)
	defer cancel()
	return id.command(ctx, "/bin/sh", "-c", `cd "$1" && test -w .`, "sh", dir).Run() == nil
}

// canRun tells whether this user can execute the file.
func (id identity) canRun(ctx context.Context, file string) bool {
	ctx, cancel := probe(ctx)
	defer cancel()
	return id.command(ctx, "/bin/sh", "-c", `test -x "$1"`, "sh", file).Run() == nil
}

// probeTimeout bounds one short command whose success is a question; such a command ends in milliseconds.
const probeTimeout = 10 * time.Second

// probe returns the context of such a command. It outlives a cancelled caller, because a command that was cut off would look
// like the answer no, and Start would move the data or install programs for it.
func probe(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), probeTimeout)
}
