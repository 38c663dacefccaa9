package migrations_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/keyward/keyward/internal/pgtest"
	"github.com/keyward/keyward/internal/postgres"
	"github.com/keyward/keyward/migrations"
)

func TestEverythingIsCommented(t *testing.T) {
	t.Parallel()
	pool := admin(t, pgtest.New(t))
	bare := list(t, pool, `
		SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'S')
			AND NOT c.relispartition AND c.relname <> 'schema_migrations' AND obj_description(c.oid, 'pg_class') IS NULL
			AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'i')
		UNION ALL
		SELECT c.relname || '.' || a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
			WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
			AND c.relname <> 'schema_migrations' AND col_description(c.oid, a.attnum) IS NULL`)
	if len(bare) > 0 {
		t.Errorf("without a comment: %q", bare)
	}
}

// TestDocumentNamesEveryTable keeps the list in docs/database.md equal to the schema.
func TestDocumentNamesEveryTable(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/database.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := bytes.Cut(page, []byte("\n## Tables\n"))
	if !found {
		t.Fatal("docs/database.md has no section Tables")
	}
	section, _, _ = bytes.Cut(section, []byte("\n## "))
	var documented []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllSubmatch(section, -1) {
		documented = append(documented, string(row[1]))
	}
	slices.Sort(documented)
	tables := list(t, admin(t, pgtest.New(t)), `SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace
		AND relkind IN ('r', 'p', 'v') AND NOT relispartition AND relname <> 'schema_migrations' ORDER BY relname COLLATE "C"`)
	if !slices.Equal(documented, tables) {
		t.Errorf("docs/database.md lists\n%q, the schema has\n%q", documented, tables)
	}
}

func TestConstraints(t *testing.T) {
	t.Parallel()
	const check, unique, foreign, exclusion = "23514", "23505", "23503", "23P01"
	pool := seeded(t)[postgres.Superuser]
	set := `INSERT INTO work_keys (terminal_id, version, state, algorithm, lmk_domain, pik, pik_kcv, mak, mak_kcv, answer, request_digest, digest, expires_at)
		VALUES ('10000001', %d, '%s', 'tdes', 'test', 'U00', '01234567', 'U00', '01234567', '', '', '', now())`
	exec(t, pool, fmt.Sprintf(set, 2, "active"))
	tests := []struct{ statement, want string }{
		{"INSERT INTO merchants (merchant_id, name) VALUES ('short', 'x')", check},
		{"INSERT INTO terminals (terminal_id, merchant_id) VALUES ('10000002', '104110000000009')", foreign},
		{"UPDATE terminals SET state = 'gone'", check},
		{"UPDATE terminals SET mak_length = 12", check},
		{"INSERT INTO cards (psam_no) VALUES ('123')", check},
		{"INSERT INTO bindings (psam_no, terminal_id, actor) VALUES ('60000000000000000001', '10000001', 'x')", unique},
		{"UPDATE bindings SET valid_to = valid_from - interval '1 s'", check},
		{"UPDATE keys SET cryptogram = NULL", check},
		{"UPDATE keys SET kcv = 'xyz'", check},
		{"UPDATE keys SET state = 'destroyed'", check},
		{"UPDATE keys SET state = 'destroyed', cryptogram = NULL", ""},
		{fmt.Sprintf(set, 3, "active"), exclusion},
		{fmt.Sprintf(set, 3, "grace"), ""},
		{fmt.Sprintf(set, 4, "pending"), ""},
		{"INSERT INTO transactions (business_date, txn_id, seq, event, pan_masked) VALUES ('2026-01-01', gen_random_uuid(), 0, 'note', '6222020000000000018')", check},
		{"INSERT INTO transactions (business_date, txn_id, seq, event, pan_masked) VALUES ('2026-01-01', gen_random_uuid(), 0, 'note', '622202*********0018')", ""},
		{"INSERT INTO transactions (business_date, txn_id, seq, event, amount) VALUES ('2026-01-01', gen_random_uuid(), 0, 'note', -1)", check},
		{"INSERT INTO users (user_id, name, role, password_hash) VALUES ('v', 'V', 'god', 'x')", check},
		{"UPDATE orders SET state = 'signed'", check},
		{"UPDATE orders SET signature = 'x'", check},
		{"UPDATE orders SET state = 'signed', document = 'x', signature = 'y'", ""},
		{"UPDATE orders SET algorithms = '{des}'", check},
		{"INSERT INTO order_approvals (order_id, approver) SELECT order_id, author FROM orders", unique},
		{"INSERT INTO rewrap_jobs (from_domain, to_domain, method, rate, started_by, ordered_by) VALUES ('new', 'test', 'translate', 10, 'a', 'a')", unique},
		{"INSERT INTO rewrap_jobs (from_domain, to_domain, method, rate, started_by, ordered_by) VALUES ('a', 'a', 'translate', 10, 'a', 'a')", check},
		{"INSERT INTO rewrap_jobs (from_domain, to_domain, method, rate, started_by, ordered_by) VALUES ('a', 'b', 'zmk', 10, 'a', 'a')", check},
		{"INSERT INTO hsm_lists (hsm_group, version, members, saved_by, instance) VALUES ('online', 9223372036854775807, '[]', 'a', 'b')", unique},
		{"UPDATE rewrap_jobs SET state = 'done'", check},
		{"UPDATE rewrap_jobs SET rate = 1001", check},
		{"UPDATE key_twins SET cryptogram = NULL", check},
		{"INSERT INTO key_twins (key_id, lmk_domain, cryptogram, kcv_after) SELECT key_id, 'new', 'S01', '0123ABCD' FROM keys", unique},
		{"INSERT INTO audit_head (one, seq, hash) VALUES (false, 0, '')", check},
		{"SELECT ensure_transaction_partitions('2026-01-01', 0)", "22023"},
		{"SELECT ensure_transaction_partitions('2026-01-01', 401)", "22023"},
		{"SELECT ensure_transaction_partitions(NULL, 1)", "22023"},
		{"SELECT drop_transaction_partitions(365)", "22023"},
	}
	for _, test := range tests {
		tx, err := pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err = tx.Exec(t.Context(), test.statement)
		if err == nil { // deferred constraints speak at the end
			_, err = tx.Exec(t.Context(), "SET CONSTRAINTS ALL IMMEDIATE")
		}
		if got := sqlState(err); got != test.want {
			t.Errorf("%s: SQLSTATE %q, want %q (%v)", test.statement, got, test.want, err)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	// Activation moves two rows in one statement, in whatever order the server takes them.
	exec(t, pool, fmt.Sprintf(set, 5, "pending"))
	exec(t, pool, "UPDATE work_keys SET state = CASE version WHEN 5 THEN 'active' ELSE 'grace' END WHERE version IN (2, 5)")
}

// TestDeviceChangesComeInCommitOrder: a second writer gets its number only after the first has committed.
func TestDeviceChangesComeInCommitOrder(t *testing.T) {
	t.Parallel()
	pools := seeded(t)
	posv := pools[migrations.RolePOSV]
	listener, err := pools[migrations.RolePOSP].Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Release()
	if _, err := listener.Exec(t.Context(), "LISTEN keyward_device"); err != nil {
		t.Fatal(err)
	}
	const insert = "INSERT INTO device_changes (terminal_id, kind) VALUES ('10000001', 'terminal') RETURNING seq"
	first, err := posv.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = first.Rollback(context.Background()) }() // of no effect after the commit
	var early int64
	if err := first.QueryRow(t.Context(), insert).Scan(&early); err != nil {
		t.Fatal(err)
	}
	late := make(chan int64, 1)
	go func() {
		var seq int64
		if err := posv.QueryRow(t.Context(), insert).Scan(&seq); err != nil {
			t.Error(err)
		}
		late <- seq
	}()
	select {
	case seq := <-late:
		t.Fatalf("the second writer got %d before the first committed", seq)
	case <-time.After(100 * time.Millisecond): // nothing can signal that something does not happen
	}
	if err := first.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for _, want := range []int64{early, <-late} {
		note, err := listener.Conn().WaitForNotification(ctx)
		if err != nil || note.Payload != strconv.FormatInt(want, 10) {
			t.Errorf("notification %+v, %v; want %d", note, err, want)
		}
	}
}

func TestAuditChain(t *testing.T) {
	t.Parallel()
	pools := seeded(t)
	const each = 15
	done := make(chan error)
	for _, role := range migrations.ServiceRoles() {
		go func() {
			var err error
			for i := range each {
				// Everything that is not the service's to choose is given wrong and must not count.
				_, e := pools[role].Exec(t.Context(), `INSERT INTO audit (seq, at, actor, action, object, detail, prev_hash, hash)
					VALUES (7, '2000-01-01', '操作员:1,', 'test', $1, '{"b": 1, "a": "ü"}', 'x', 'y')`, strconv.Itoa(i))
				err = max2(err, e)
			}
			done <- err
		}()
	}
	for range migrations.ServiceRoles() {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	// An unfinished transaction must leave no gap.
	tx, err := pools[migrations.RolePOSV].Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "INSERT INTO audit (actor, action) VALUES ('a', 'b')"); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	rows, err := pools[migrations.RolePOSV].Query(t.Context(), "SELECT seq, at, service, actor, action, object, detail::text, prev_hash, hash FROM audit ORDER BY seq")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	previous, count, services := make([]byte, sha256.Size), int64(0), map[string]int{}
	for rows.Next() {
		var seq int64
		var at time.Time
		var service, actor, action, object, detail string
		var prevHash, hash []byte
		if err := rows.Scan(&seq, &at, &service, &actor, &action, &object, &detail, &prevHash, &hash); err != nil {
			t.Fatal(err)
		}
		sum := sha256.New()
		sum.Write(previous)
		for _, field := range []string{strconv.FormatInt(seq, 10), at.UTC().Format("2006-01-02T15:04:05.000000Z"), service, actor, action, object, detail} {
			fmt.Fprintf(sum, "%d:%s,", len(field), field)
		}
		count++
		services[service]++
		if seq != count || !bytes.Equal(prevHash, previous) || !bytes.Equal(hash, sum.Sum(nil)) || time.Since(at) > time.Hour {
			t.Fatalf("record %d breaks the chain at place %d (at %v)", seq, count, at)
		}
		previous = hash
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if want := map[string]int{"posp": each, "keys": each, "issuer": each + 1, "posv": each}; fmt.Sprint(services) != fmt.Sprint(want) {
		t.Errorf("records by service %v, want %v", services, want)
	}
	if head := list(t, pools[migrations.RolePOSV], "SELECT seq || encode(hash, 'hex') FROM audit_head"); head[0] != fmt.Sprintf("%d%x", count, previous) {
		t.Errorf("head %s", head)
	}
	_, err = pools[migrations.RolePOSP].Exec(t.Context(), "INSERT INTO audit (service, actor, action) VALUES ('posv', 'a', 'b')")
	if sqlState(err) != refused {
		t.Errorf("posp writes as posv: %v", err)
	}
}

// max2 keeps the first error.
func max2(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

func TestPartitions(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	posp, pool := db.Pool(t, migrations.RolePOSP), admin(t, db)
	for _, day := range []string{"2026-03-01", "2026-03-02", "2026-03-09"} { // no partition yet: the safety net takes them
		exec(t, posp, "INSERT INTO transactions (business_date, txn_id, seq, event) VALUES ($1::date, gen_random_uuid(), 0, 'received')", day)
	}
	created := make(chan int)
	for range 4 { // several instances at the same moment
		go func() {
			var n int
			if err := posp.QueryRow(t.Context(), "SELECT ensure_transaction_partitions('2026-03-01', 3)").Scan(&n); err != nil {
				t.Error(err)
			}
			created <- n
		}()
	}
	total := 0
	for range 4 {
		total += <-created
	}
	if total != 3 {
		t.Errorf("%d partitions were made, want 3", total)
	}
	places := list(t, pool, "SELECT tableoid::regclass || ' ' || business_date FROM transactions ORDER BY business_date")
	want := []string{"transactions_20260301 2026-03-01", "transactions_20260302 2026-03-02", "transactions_default 2026-03-09"}
	if !slices.Equal(places, want) {
		t.Errorf("rows lie in %q, want %q", places, want)
	}
	if indexes := list(t, pool, "SELECT indexname::text FROM pg_indexes WHERE tablename = 'transactions_20260301'"); len(indexes) != 4 {
		t.Errorf("indexes of a partition: %q", indexes)
	}
	// The same record again, as a replayed spool sends it, changes nothing.
	for range 2 {
		exec(t, posp, "INSERT INTO transactions (business_date, txn_id, seq, event) VALUES ('2026-03-03', '00000000-0000-0000-0000-000000000001', 0, 'sending') ON CONFLICT DO NOTHING")
	}
	exec(t, pool, "SELECT ensure_transaction_partitions(current_date - 400, 1), ensure_transaction_partitions(current_date - 366, 1)")
	if dropped := list(t, pool, "SELECT drop_transaction_partitions(366)::text"); dropped[0] != "1" {
		t.Errorf("dropped %s partitions, want 1", dropped)
	}
}

// TestUses: what later transactions may take of an earlier one. A case is a line of uses in their order; the first letter is the transaction's name.
func TestUses(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	posp := db.Pool(t, migrations.RolePOSP)
	id := func(name string) string { return "00000000-0000-0000-0000-0000000000" + name }
	use := func(name, original string, amount, allowed int, alone bool) string {
		t.Helper()
		var answer string
		if err := posp.QueryRow(t.Context(), "SELECT use_transaction($1::uuid, $2::uuid, $3, $4, $5, 'a', '2026-03-01')",
			id(name), id(original), amount, allowed, alone).Scan(&answer); err != nil {
			t.Fatal(err)
		}
		return answer
	}
	set := func(name, state string) {
		t.Helper()
		exec(t, posp, "UPDATE transaction_uses SET state = $2 WHERE txn_id = $1::uuid", id(name), state)
	}
	want := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("the answer is %q, want %q", got, want)
		}
	}
	// Refunds of 100: 60, the same again, 50 too much, 40, nothing left; one that came to nothing gives its part back.
	want(use("11", "10", 60, 100, false), "ok")
	want(use("11", "10", 60, 100, false), "ok")
	want(use("12", "10", 50, 100, false), "over")
	want(use("13", "10", 40, 100, false), "ok")
	want(use("14", "10", 1, 100, false), "over")
	set("13", "released")
	want(use("14", "10", 40, 100, false), "ok")
	want(use("15", "10", 100, 100, true), "taken")
	// A void stands alone, and nothing stands beside it.
	want(use("21", "20", 100, 100, true), "ok")
	want(use("22", "20", 100, 100, true), "taken")
	want(use("23", "20", 1, 100, false), "taken")
	set("21", "released")
	want(use("22", "20", 100, 100, true), "ok")
	// A completion that was voided leaves its pre-authorisation free again, but not while the void is open.
	want(use("31", "30", 115, 115, true), "ok")
	set("31", "kept")
	want(use("32", "31", 115, 115, true), "ok")
	want(use("33", "30", 100, 115, true), "taken")
	set("32", "kept")
	want(use("33", "30", 100, 115, true), "ok")

	// Two at once: one of them.
	answers := make(chan string)
	for _, name := range []string{"41", "42", "43", "44"} {
		go func() { answers <- use(name, "40", 60, 100, false) }()
	}
	good := 0
	for range 4 {
		if <-answers == "ok" {
			good++
		}
	}
	if good != 1 {
		t.Errorf("%d of four uses of 60 were given out of 100", good)
	}
}
