package hsmlist

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/keyward/keyward/hsmclient/member"
)

// maxCopy bounds the local copy: 64 members have some tens of KiB.
const maxCopy = 4 << 20

// Load says which members to start with: the stored list if there is one; else, with the database away, the local copy; else those of the
// configuration. A list with a member that Check refuses is an error: to start without that member would be a silent change. So is a stored
// list that cannot be read, unless there is a local copy: the configuration is older than any list, and may name what was removed for a reason.
func (l *List) Load(ctx context.Context, configured []member.Spec) ([]member.Spec, error) {
	asking, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	stored, err := l.newest(asking)
	switch {
	case err == nil && stored != nil:
		return l.begin(*stored, Stored)
	case err == nil:
		l.cfg.Log.InfoContext(ctx, "hsm list: none was saved yet, the configuration rules", "members", len(configured))
		return configured, nil
	}
	away := errors.Is(err, ErrAway)
	kept, copyErr := l.readCopy()
	switch {
	case copyErr != nil:
		return nil, errors.Join(err, copyErr)
	case kept == nil && !away:
		return nil, fmt.Errorf("hsm list: the newest saved list cannot be read, and there is no local copy of an older one: %w; start the version of "+
			"the program that has saved it, save a right list on another instance, or start with hsm.list.shared: false", err)
	case kept == nil:
		l.cfg.Log.WarnContext(ctx, "hsm list: the database is away and there is no local copy, the configuration rules", "error", err, "members", len(configured))
		return configured, nil
	case away:
		l.cfg.Log.WarnContext(ctx, "hsm list: the database is away, the local copy of the last list serves", "error", err)
		return l.begin(*kept, Copy)
	}
	specs, begun := l.begin(*kept, Copy)
	if begun == nil {
		l.unread(ctx, err)
	}
	return specs, begun
}

// begin starts with a version.
func (l *List) begin(v Version, origin Origin) ([]member.Spec, error) {
	if err := l.check(v); err != nil {
		return nil, fmt.Errorf("%w; save a right list on another instance, or start with hsm.list.shared: false", err)
	}
	l.inForce(v, origin, v.Members)
	l.cfg.Log.Info("hsm list: begins with a saved list; the members of the configuration file are not used", "origin", string(origin),
		"version", v.Version, "saved_by", v.SavedBy, "saved_at", v.SavedAt, "members", len(v.Members))
	return v.Members, nil
}

// check refuses a list with a member that this service must not have.
func (l *List) check(v Version) error {
	var errs []error
	for _, s := range v.Members {
		if err := l.cfg.Check(s); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("version %d of the %s list, saved by %s on %s: %w", v.Version, v.Group, v.SavedBy, v.Instance, err)
	}
	return nil
}

// readCopy gives the local copy, nil where there is none.
func (l *List) readCopy() (*Version, error) {
	if l.cfg.LocalCopy == "" {
		return nil, nil
	}
	info, err := os.Stat(l.cfg.LocalCopy)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && info.Size() > maxCopy {
		err = fmt.Errorf("more than %d bytes", maxCopy)
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(l.cfg.LocalCopy)
	}
	var v Version
	if err == nil {
		err = json.Unmarshal(text, &v)
	}
	if err == nil && (v.Group != l.cfg.Group || v.Version < 1 || len(v.Members) == 0) {
		err = fmt.Errorf("it is not a list of group %s", l.cfg.Group)
	}
	if err != nil {
		return nil, fmt.Errorf("hsm list: local copy %s: %w; remove it, and the members of the configuration file serve", l.cfg.LocalCopy, err)
	}
	return &v, nil
}

// writeCopy replaces the local copy, whole or not at all, and durably: it is read after a crash.
func (l *List) writeCopy(v Version) (err error) {
	if l.cfg.LocalCopy == "" {
		return nil
	}
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("hsm list: local copy: %w", err)
	}
	temp := l.cfg.LocalCopy + ".new"
	file, err := os.OpenFile(temp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("hsm list: local copy: %w; make the directory, writable for this service", err)
	}
	_, err = file.Write(append(text, '\n'))
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(temp, l.cfg.LocalCopy)
	}
	if err == nil {
		err = syncDir(filepath.Dir(l.cfg.LocalCopy))
	}
	if err != nil {
		return fmt.Errorf("hsm list: local copy: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
