// Package migrations holds the PostgreSQL schema as numbered up/down pairs of plain SQL, and applies it.
//
// Every file runs as one implicit transaction (the simple query protocol with several statements), and the version table
// changes in that same transaction (atomicDriver). A process killed half-way therefore leaves the version before, never the
// "dirty" version of plain golang-migrate, and the next start simply goes on. A file therefore never contains COMMIT or
// CONCURRENTLY; a test refuses both. A version left dirty by the plain golang-migrate tool is repaired as
// facts/platform.md, Migrations, says: the version before it is forced, which is safe only because of that rule.
//
// The documentation of the schema is in the COMMENT statements of the files and in docs/database.md.
package migrations

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/golang-migrate/migrate/v4"
)

// Files holds the numbered SQL files, for example 0001_roles.up.sql.
//
//go:embed *.sql
var Files embed.FS

// Apply brings the database at url (postgres://…) to the newest version. It creates the roles of the product where the
// server lacks them, so the user in url must be a superuser or have CREATEROLE and own the database. Several processes may
// call it at once: one works, the others wait, bounded by lockTimeout and by ctx. A version left dirty by a killed process
// is repaired. A database already at the newest version is left alone.
func Apply(ctx context.Context, url string) error {
	return withMigrate(ctx, url, func(m *migrate.Migrate) error {
		err := m.Up()
		if dirty := (migrate.ErrDirty{}); errors.As(err, &dirty) {
			if err := forcePrevious(m, dirty.Version); err != nil {
				return err
			}
			err = m.Up()
		}
		if err != nil && !errors.Is(err, migrate.ErrNoChange) {
			return fmt.Errorf("apply migrations: %w", redacted(err))
		}
		return nil
	})
}

// Down takes every migration back, newest first: all tables of the product and their data are gone. The roles stay, because
// they belong to the whole server (0001_roles.down.sql).
func Down(ctx context.Context, url string) error {
	return withMigrate(ctx, url, func(m *migrate.Migrate) error {
		err := m.Down()
		if dirty := (migrate.ErrDirty{}); errors.As(err, &dirty) {
			// Plain golang-migrate notes the version below before it runs a step down, and the step was rolled back.
			if err := m.Force(next(dirty.Version)); err != nil {
				return fmt.Errorf("repair dirty version %d: %w", dirty.Version, redacted(err))
			}
			err = m.Down()
		}
		if err != nil && !errors.Is(err, migrate.ErrNoChange) {
			return fmt.Errorf("take migrations back: %w", redacted(err))
		}
		return nil
	})
}

// Version returns the version of the schema at url, 0 when nothing was applied, and whether it was left dirty by a process
// that died; the next Apply repairs that.
func Version(ctx context.Context, url string) (version int, dirty bool, err error) {
	err = withMigrate(ctx, url, func(m *migrate.Migrate) error {
		v, d, err := m.Version()
		if errors.Is(err, migrate.ErrNilVersion) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read schema version: %w", redacted(err))
		}
		version, dirty = int(v), d
		return nil
	})
	return version, dirty, err
}

// Latest returns the newest version that this program knows.
func Latest() int {
	all := versions()
	return all[len(all)-1]
}

// forcePrevious marks the version before a dirty one as the present one. Safe only because every file is one transaction,
// and because withMigrate keeps every other starter out from the look to the repair.
func forcePrevious(m *migrate.Migrate, dirty int) error {
	if err := m.Force(previous(dirty)); err != nil {
		return fmt.Errorf("repair dirty version %d: %w", dirty, redacted(err))
	}
	return nil
}

// previous returns the version before v, or -1 ("no version" in golang-migrate) when v is the first.
func previous(v int) int {
	before := -1
	for _, known := range versions() {
		if known < v {
			before = known
		}
	}
	return before
}

// next returns the version after v, or v itself when it is the newest.
func next(v int) int {
	for _, known := range versions() {
		if known > v {
			return known
		}
	}
	return v
}

// versions lists the numbers of the up files, rising. The files are embedded: a name that does not parse is a mistake of
// the source tree, which the test of the file rules reports, hence it is skipped here.
func versions() []int {
	names, err := fs.Glob(Files, "*.up.sql")
	if err != nil {
		return []int{0}
	}
	all := make([]int, 0, len(names))
	for _, name := range names { // fs.Glob returns names in order
		number, _, _ := strings.Cut(name, "_")
		if v, err := strconv.Atoi(number); err == nil {
			all = append(all, v)
		}
	}
	return all
}
