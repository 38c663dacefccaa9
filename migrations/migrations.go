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
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/golang-migrate/migrate/v4/database"
)

// Files holds the numbered SQL files, for example 0001_roles.up.sql.
//
//go:embed *.sql
var Files embed.FS

// Apply brings the database at url (postgres://…) to the newest version. It creates the roles of the product where the
// server lacks them, so the user in url must be a superuser or have CREATEROLE and own the database. Several processes may
// call it at once: one works, the others wait, bounded by lockTimeout and by ctx. A version left dirty by a killed process
// is repaired. A database already at the newest version is left alone; one that is newer than this program is refused.
func Apply(ctx context.Context, url string) error {
	return withMigrator(ctx, url, func(m *migrator) error {
		for {
			version, dirty, err := m.driver.Version()
			switch {
			case err != nil:
				return fmt.Errorf("read schema version: %w", redacted(err))
			case dirty:
				// The file of this version was rolled back, so the one before it is the present one.
				err = m.force(previous(version))
			case version == Latest():
				return nil
			case version > Latest():
				return fmt.Errorf("the database has schema version %d, this program knows only %d: run a newer program", version, Latest())
			default:
				err = m.step(+1)
			}
			if err != nil {
				return fmt.Errorf("apply migrations after version %d: %w", max(version, 0), err)
			}
		}
	})
}

// Down takes every migration back, newest first: all tables of the product and their data are gone. The roles stay, because
// they belong to the whole server (0001_roles.down.sql).
func Down(ctx context.Context, url string) error {
	return withMigrator(ctx, url, func(m *migrator) error {
		for {
			version, dirty, err := m.driver.Version()
			switch {
			case err != nil:
				return fmt.Errorf("read schema version: %w", redacted(err))
			case dirty:
				// Plain golang-migrate notes the version below before it runs a step down, and the step was rolled back.
				err = m.force(next(version))
			case version == database.NilVersion:
				return nil
			default:
				err = m.step(-1)
			}
			if err != nil {
				return fmt.Errorf("take back version %d: %w", version, err)
			}
		}
	})
}

// Version returns the version of the schema at url, 0 when nothing was applied, and whether it was left dirty by a process
// that died; the next Apply repairs that.
func Version(ctx context.Context, url string) (version int, dirty bool, err error) {
	err = withMigrator(ctx, url, func(m *migrator) error {
		v, d, err := m.driver.Version()
		if err != nil {
			return fmt.Errorf("read schema version: %w", redacted(err))
		}
		version, dirty = max(v, 0), d
		return nil
	})
	return version, dirty, err
}

// Latest returns the newest version that this program knows.
func Latest() int {
	all := versions()
	return all[len(all)-1]
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
