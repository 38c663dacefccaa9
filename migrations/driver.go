package migrations

import (
	"fmt"
	"io"
	"strings"

	"github.com/golang-migrate/migrate/v4/database"
)

// atomicDriver makes a migration and its version number one transaction. golang-migrate writes "version v, dirty", runs the
// file, then writes "version v, clean": killed between any two of them, the database is dirty and a person must find out
// whether the file ran. Here the first write is only remembered, and the second one is appended to the file.
type atomicDriver struct {
	database.Driver
	target int // version that the file under way leads to; -1 is no version at all
}

var _ database.Driver = (*atomicDriver)(nil)

// SetVersion remembers a dirty version instead of writing it.
func (d *atomicDriver) SetVersion(version int, dirty bool) error {
	if dirty {
		d.target = version
		return nil
	}
	return d.Driver.SetVersion(version, false)
}

// Run runs one file and notes its version, in one implicit transaction. RESET ROLE comes between, because files work as
// keyward_owner while the version table belongs to whoever migrates.
func (d *atomicDriver) Run(migration io.Reader) error {
	const table = "schema_migrations"
	tail := "\n;RESET ROLE;\nTRUNCATE " + table + ";\n"
	if d.target >= 0 {
		tail += fmt.Sprintf("INSERT INTO %s (version, dirty) VALUES (%d, false);\n", table, d.target)
	}
	return d.Driver.Run(io.MultiReader(migration, strings.NewReader(tail)))
}
