package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// templateFormat is part of the name of cached templates: raise it when initdb is called with other options.
const templateFormat = 1

// ensureData makes the data directory when there is none: a copy of a cached template, which takes a fraction of initdb's
// time. The copy is complete before it gets its name, so a killed run leaves no half-made data directory.
func (s *Server) ensureData(ctx context.Context) error {
	for _, name := range []string{"data.new", "template.new"} { // left by a killed run
		if err := os.RemoveAll(filepath.Join(s.dir, name)); err != nil {
			return explainPath("remove", filepath.Join(s.dir, name), err)
		}
	}
	if dataMajor(s.DataDir()) != "" {
		return nil
	}
	if entries, err := os.ReadDir(s.DataDir()); err == nil && len(entries) > 0 {
		return fmt.Errorf("postgres: %s is not empty and not a database: choose another data directory or start afresh with `make dev-reset`", s.DataDir())
	}
	fresh := filepath.Join(s.dir, "data.new")
	template, err := s.template(ctx)
	if err == nil {
		err = s.copyTree(template, fresh)
	}
	if err != nil {
		// The cache is only a matter of speed; a real trouble with the disk shows again below, with its own sentence.
		s.log.DebugContext(ctx, "database template not usable", "error", err)
		if err := os.RemoveAll(fresh); err != nil {
			return explainPath("remove", fresh, err)
		}
		if err := s.initdb(ctx, fresh); err != nil {
			return err
		}
	}
	if !s.config.Fast {
		// What was copied must survive a power cut before anything is stored in it.
		if out, err := s.user.command(ctx, s.bin.path("initdb"), "--sync-only", "-D", fresh).CombinedOutput(); err != nil {
			return explainServer("sync the data directory", err, string(out))
		}
	}
	if err := os.Remove(s.DataDir()); err != nil && !errors.Is(err, fs.ErrNotExist) { // it is empty
		return explainPath("replace", s.DataDir(), err)
	}
	if err := os.Rename(fresh, s.DataDir()); err != nil {
		return explainPath("create", s.DataDir(), err)
	}
	// A password of an earlier data directory does not fit a new one; bootstrap sets and writes a new one.
	if err := os.Remove(filepath.Join(s.dir, "password")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return explainPath("remove", filepath.Join(s.dir, "password"), err)
	}
	return nil
}

// initdb makes a data directory. It sets no password and lets nobody in over the network ("reject"): access is ruled by
// files that the server writes at each start (writeAccess).
func (s *Server) initdb(ctx context.Context, dir string) error {
	cmd := s.user.command(ctx, s.bin.path("initdb"), "-D", dir, "-U", Superuser, "--encoding=UTF8", "--locale=C",
		"--auth=reject", "--no-sync", "--no-instructions")
	if out, err := cmd.CombinedOutput(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return explainServer("make the data directory", err, string(out))
	}
	return nil
}

// template returns a cached, never started data directory for these programs, made when it is missing.
func (s *Server) template(ctx context.Context) (string, error) {
	root, err := templateRoot(s.user)
	if err != nil {
		return "", err
	}
	if err := makeDirectory(root, s.user); err != nil {
		return "", err
	}
	dir := filepath.Join(root, s.bin.version+"-"+strconv.Itoa(templateFormat))
	if dataMajor(dir) == s.bin.major {
		return dir, nil
	}
	fresh := filepath.Join(s.dir, "template.new")
	defer func() { _ = os.RemoveAll(fresh) }()
	if err := s.initdb(ctx, fresh); err != nil {
		return "", err
	}
	// The cache may lie on another disk, and only a rename makes it appear whole: copy it beside its place first.
	beside, err := os.MkdirTemp(root, "new-")
	if err != nil {
		return "", explainPath("create directory in", root, err)
	}
	defer func() { _ = os.RemoveAll(beside) }()
	if err := s.copyTree(fresh, filepath.Join(beside, "t")); err != nil {
		return "", err
	}
	if err := os.Rename(filepath.Join(beside, "t"), dir); err != nil && dataMajor(dir) == "" {
		return "", explainPath("create", dir, err)
	}
	return dir, nil
}

// templateRoot is where templates are cached, per user, because data directories belong to one.
func templateRoot(id identity) (string, error) {
	if id.dropped {
		return filepath.Join(sharedRoot, "keyward-pg-templates-"+strconv.Itoa(id.uid)), nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("postgres: find the cache directory: %w", err)
	}
	return filepath.Join(cache, "keyward", "pg-templates"), nil
}

// copyTree copies a data directory and gives it to the database user. A data directory that was never started holds plain
// files and directories only; anything else is refused.
func (s *Server) copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return explainPath("read", path, err)
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return fmt.Errorf("postgres: copy %s: %w", path, err)
		}
		target := filepath.Join(to, relative)
		switch {
		case entry.IsDir():
			err = os.Mkdir(target, 0o700)
		case entry.Type().IsRegular():
			err = copyFile(path, target)
		default:
			return fmt.Errorf("postgres: copy %s: neither a file nor a directory", path)
		}
		if err != nil {
			return explainPath("write", target, err)
		}
		return s.user.own(target)
	})
}

func copyFile(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, copyErr := io.Copy(target, source)
	return errors.Join(copyErr, target.Close())
}
