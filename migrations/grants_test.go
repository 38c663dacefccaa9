package migrations_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyward/keyward/internal/pgtest"
	"github.com/keyward/keyward/internal/postgres"
	"github.com/keyward/keyward/migrations"
)

const (
	refused = "42501" // insufficient_privilege
	allowed = ""
)

// seed is what the statements of the grants test work on, made by the roles that may make it.
var seed = []struct{ role, statement string }{
	{migrations.RolePOSV, "INSERT INTO merchants (merchant_id, name) VALUES ('104110000000001', 'Shop')"},
	{migrations.RolePOSV, "INSERT INTO terminals (terminal_id, merchant_id) VALUES ('10000001', '104110000000001')"},
	{migrations.RoleIssuer, "INSERT INTO cards (psam_no) VALUES ('60000000000000000001')"},
	{migrations.RolePOSV, "INSERT INTO bindings (psam_no, terminal_id, actor) VALUES ('60000000000000000001', '10000001', 'test')"},
	{migrations.RolePOSV, "INSERT INTO terminal_events (terminal_id, event, actor) VALUES ('10000001', 'registered', 'test')"},
	{migrations.RoleIssuer, "INSERT INTO card_events (psam_no, event, actor) VALUES ('60000000000000000001', 'registered', 'test')"},
	{migrations.RolePOSV, "INSERT INTO device_changes (terminal_id, kind) VALUES ('10000001', 'terminal')"},
	{migrations.RoleKeys, `INSERT INTO issue_orders (order_id, psam_from, count, algorithms, expires_at, approvers, signature, document)
		VALUES ('00000000-0000-0000-0000-000000000001', '60000000000000000001', 1, '{tdes}', now(), '{a,b}', '', '')`},
	{migrations.RoleKeys, `INSERT INTO keys (name, usage, algorithm, version, lmk_domain, length_bits, order_id)
		VALUES ('PSAM:60000000000000000001', 'tmk', 'tdes', 1, 'test', 128, '00000000-0000-0000-0000-000000000001')`},
	{migrations.RoleKeys, "UPDATE keys SET state = 'active', cryptogram = 'U00', kcv = '0123ABCD'"},
	{migrations.RoleKeys, "INSERT INTO key_events (key_id, event, actor) SELECT key_id, 'derived', 'test' FROM keys"},
	{migrations.RoleKeys, "INSERT INTO issue_order_cards (order_id, psam_no, key_id) SELECT order_id, '60000000000000000001', key_id FROM keys"},
	{migrations.RoleIssuer, "INSERT INTO issue_runs (run_id, psam_no, order_id) VALUES (gen_random_uuid(), '60000000000000000001', gen_random_uuid())"},
	{migrations.RolePOSP, `INSERT INTO work_keys (terminal_id, version, algorithm, lmk_domain, pik, pik_kcv, mak, mak_kcv, answer, request_digest, digest, expires_at)
		VALUES ('10000001', 1, 'tdes', 'test', 'U00', '01234567', 'U00', '01234567', '', '', '', now())`},
	{migrations.RolePOSP, "SELECT ensure_transaction_partitions('2026-01-01', 2)"},
	{migrations.RolePOSP, `INSERT INTO transactions (business_date, txn_id, seq, event)
		VALUES ('2026-01-01', '00000000-0000-0000-0000-000000000002', 0, 'sending')`},
	{migrations.RolePOSP, `INSERT INTO transaction_secrets (txn_id, business_date, instance, sealed)
		VALUES ('00000000-0000-0000-0000-000000000002', '2026-01-01', 'a', 'x')`},
	{migrations.RolePOSP, `INSERT INTO transaction_keys (terminal_id, merchant_id, batch, trace, mti, type60, business_date, content_digest, txn_id)
		VALUES ('10000001', '104110000000001', '000001', '000001', '0200', '22', '2026-01-01', '', gen_random_uuid())`},
	{migrations.RolePOSP, "INSERT INTO reversals (txn_id, business_date, cause, sealed) VALUES (gen_random_uuid(), '2026-01-01', 'silent', 'x')"},
	{migrations.RolePOSP, "INSERT INTO posp_instances (instance_id, lease_until) VALUES ('a', now())"},
	{migrations.RolePOSV, "INSERT INTO users (user_id, name, role, password_hash) VALUES ('u', 'U', 'viewer', 'x')"},
	{migrations.RolePOSV, `INSERT INTO orders (order_id, author, psam_from, count, algorithms, expires_at)
		VALUES ('00000000-0000-0000-0000-000000000003', 'a', '60000000000000000001', 1, '{tdes}', now())`},
	{migrations.RolePOSV, "INSERT INTO order_approvals (order_id, approver) VALUES ('00000000-0000-0000-0000-000000000003', 'a')"},
	{migrations.RolePOSP, "INSERT INTO hsm_lists (hsm_group, version, members, saved_by, instance) VALUES ('online', 1, '[]', 'a', 'posp-1')"},
	{migrations.RoleKeys, "INSERT INTO hsm_lists (hsm_group, version, members, saved_by, instance) VALUES ('issuing', 1, '[]', 'a', 'keys')"},
	{migrations.RolePOSP, "INSERT INTO hsm_fences (hsm_group, member, instance) VALUES ('online', 'hsm1', 'posp-1')"},
	{migrations.RolePOSP, "INSERT INTO hsm_switches (hsm_group, instance, run, seq, at, what) VALUES ('online', 'posp-1', 'r', 1, now(), 'state')"},
	{migrations.RolePOSP, "INSERT INTO route_versions (version, document, saved_by, instance) VALUES (1, '', 'a', 'posp-1')"},
	{migrations.RoleIssuer, "INSERT INTO audit (actor, action) VALUES ('test', 'test')"},
	{migrations.RoleKeys, "INSERT INTO rewrap_jobs (from_domain, to_domain, method, rate, started_by, ordered_by) VALUES ('test', 'new', 'translate', 10, 'a', 'a')"},
	{migrations.RoleKeys, "INSERT INTO key_twins (key_id, job_id, lmk_domain, cryptogram, kcv_after) SELECT key_id, job_id, 'new', 'S00', '0123ABCD' FROM keys, rewrap_jobs"},
	{migrations.RoleKeys, "INSERT INTO rewrap_differences (job_id, key_id, reason) SELECT job_id, key_id, 'x' FROM keys, rewrap_jobs"},
	{migrations.RolePOSP, "INSERT INTO posp_domains (instance_id, place, domains) VALUES ('posp-1', 'hsm', '{test}')"},
	{migrations.RoleKeys, "INSERT INTO idempotency_keys (service, key, request_digest) VALUES ('keys', 'k', '')"},
}

func seeded(t *testing.T) map[string]*pgxpool.Pool {
	t.Helper()
	db := pgtest.New(t)
	pools := map[string]*pgxpool.Pool{postgres.Superuser: db.Pool(t, postgres.Superuser)}
	for _, role := range migrations.ServiceRoles() {
		pools[role] = db.Pool(t, role)
	}
	for _, step := range seed {
		if _, err := pools[step.role].Exec(t.Context(), step.statement); err != nil {
			t.Fatalf("%s: %s: %v", step.role, step.statement, err)
		}
	}
	return pools
}

func TestGrants(t *testing.T) {
	t.Parallel()
	const posp, keys, issuer, posv = migrations.RolePOSP, migrations.RoleKeys, migrations.RoleIssuer, migrations.RolePOSV
	tests := []struct {
		statement string
		may       []string // every other service role must be refused
	}{
		{"SELECT * FROM merchants", []string{posp, posv}},
		{"UPDATE merchants SET state = 'suspended'", []string{posv}},
		{"SELECT * FROM terminals", []string{posp, posv}},
		{"UPDATE terminals SET algorithm = 'sm4'", []string{posv}},
		{"DELETE FROM terminals", nil},
		{"SELECT * FROM cards", []string{posp, posv, issuer}},
		{"UPDATE cards SET state = 'personalised'", []string{posv, issuer}},
		{"DELETE FROM cards", nil},
		{"SELECT * FROM bindings", []string{posp, posv}},
		{"UPDATE bindings SET valid_to = now()", []string{posv}},
		{"DELETE FROM bindings", nil},
		{"SELECT * FROM terminal_events", []string{posp, posv}},
		{"UPDATE terminal_events SET actor = 'x'", nil},
		{"DELETE FROM terminal_events", nil},
		{"SELECT * FROM card_events", []string{posp, posv, issuer}},
		{"UPDATE card_events SET actor = 'x'", nil},
		{"DELETE FROM card_events", nil},
		{"SELECT * FROM device_changes", []string{posp, posv}},
		{"INSERT INTO device_changes (terminal_id, kind) VALUES ('10000001', 'terminal')", []string{posv}},
		{"UPDATE device_changes SET kind = 'x'", nil},
		{"DELETE FROM device_changes", nil},
		{"SELECT * FROM keys", []string{keys}},
		{"SELECT cryptogram FROM keys", []string{keys}},
		{"SELECT * FROM card_master_keys", []string{posp}},
		{"SELECT name, state, kcv FROM keys", []string{keys, posv}},
		{"UPDATE keys SET state = 'suspended'", []string{keys}},
		{"DELETE FROM keys", nil},
		{"SELECT * FROM key_events", []string{keys, posv}},
		{"UPDATE key_events SET actor = 'x'", nil},
		{"DELETE FROM key_events", nil},
		{"SELECT * FROM issue_orders", []string{keys, posv}},
		{"UPDATE issue_orders SET count = 1000", nil},
		{"DELETE FROM issue_order_cards", nil},
		{"UPDATE issue_order_cards SET psam_no = '60000000000000000009'", nil},
		{"SELECT * FROM issue_runs", []string{issuer, posv}},
		{"UPDATE issue_runs SET state = 'derived'", []string{issuer}},
		{"SELECT * FROM work_keys", []string{posp}},
		{"UPDATE work_keys SET state = 'active'", []string{posp}},
		{"DELETE FROM work_keys", []string{posp}},
		{"SELECT * FROM terminal_sign_ons", []string{posp, posv, keys}},
		{"SELECT * FROM rewrap_jobs", []string{keys, posv}},
		{"UPDATE rewrap_jobs SET state = 'paused'", []string{keys}},
		{"DELETE FROM rewrap_jobs", nil},
		{"SELECT cryptogram FROM key_twins", []string{keys}},
		{"SELECT key_id, lmk_domain, kcv_before, kcv_after FROM key_twins", []string{keys, posv}},
		{"UPDATE key_twins SET cryptogram = NULL, erased_at = now()", []string{keys}},
		{"DELETE FROM key_twins", nil},
		{"SELECT * FROM rewrap_differences", []string{keys, posv}},
		{"DELETE FROM rewrap_differences", []string{keys}},
		{"SELECT * FROM posp_domains", []string{posp, keys, posv}},
		{"UPDATE posp_domains SET domains = '{new}'", []string{posp}},
		{"DELETE FROM posp_domains", []string{posp}},
		{"DELETE FROM terminal_sign_ons", nil},
		{"SELECT * FROM transactions", []string{posp, posv}},
		{"UPDATE transactions SET amount = 1", nil},
		{"DELETE FROM transactions", nil},
		{"TRUNCATE transactions", nil},
		{"DELETE FROM transactions_20260101", nil},
		{"INSERT INTO transactions_20260101 (business_date, txn_id, seq, event) VALUES ('2026-01-01', gen_random_uuid(), 0, 'note')", nil},
		{"DROP TABLE transactions_20260101", nil},
		{"DELETE FROM transactions_default", nil},
		{"SELECT ensure_transaction_partitions('2026-01-02', 1)", []string{posp}},
		{"SELECT drop_transaction_partitions(400)", nil},
		{"SELECT * FROM transaction_secrets", []string{posp}},
		{"UPDATE transaction_secrets SET open = false", []string{posp}},
		{"DELETE FROM transaction_secrets", []string{posp}},
		{"TRUNCATE transaction_secrets", nil},
		{"SELECT * FROM transaction_uses", []string{posp, posv}},
		{"UPDATE transaction_uses SET state = 'kept'", []string{posp}},
		{"DELETE FROM transaction_uses", []string{posp}},
		{"SELECT use_transaction(gen_random_uuid(), gen_random_uuid(), 1, 1, true, 'a', '2026-01-01')", []string{posp}},
		{"SELECT * FROM transaction_keys", []string{posp}},
		{"UPDATE transaction_keys SET trace = '9'", nil},
		{"DELETE FROM transaction_keys", []string{posp}},
		{"SELECT * FROM reversals", []string{posp}},
		{"SELECT txn_id, state, cause, action FROM reversals", []string{posp, posv}},
		{"UPDATE reversals SET state = 'done'", []string{posp}},
		{"DELETE FROM reversals", nil},
		{"SELECT * FROM posp_instances", []string{posp, posv}},
		{"UPDATE posp_instances SET fence = nextval('posp_fences')", []string{posp}},
		{"SELECT * FROM users", []string{posv}},
		{"UPDATE users SET state = 'suspended'", []string{posv}},
		{"DELETE FROM users", nil},
		{"SELECT * FROM orders", []string{posv}},
		{"UPDATE orders SET state = 'withdrawn', updated_at = now()", []string{posv}},
		{"UPDATE orders SET count = 1000", nil},
		{"UPDATE orders SET author = 'x'", nil},
		{"UPDATE orders SET expires_at = now() + interval '1 year'", nil},
		{"DELETE FROM orders", nil},
		{"SELECT * FROM order_approvals", []string{posv}},
		{"UPDATE order_approvals SET approver = 'x'", nil},
		{"DELETE FROM order_approvals", nil},
		{"SELECT * FROM hsm_lists", []string{posp, keys, posv}},
		{"INSERT INTO hsm_lists (hsm_group, version, members, saved_by, instance) VALUES ('online', 2, '[]', 'a', 'b')", []string{posp}},
		{"INSERT INTO hsm_lists (hsm_group, version, members, saved_by, instance) VALUES ('issuing', 2, '[]', 'a', 'b')", []string{keys}},
		{"UPDATE hsm_lists SET saved_by = 'x'", nil},
		{"DELETE FROM hsm_lists", nil},
		{"SELECT * FROM hsm_fences", []string{posp, keys, posv}},
		{"INSERT INTO hsm_fences (hsm_group, member, instance) VALUES ('issuing', 'hsm1', 'x')", []string{keys}},
		{"UPDATE hsm_fences SET member = 'x'", nil},
		{"DELETE FROM hsm_fences", []string{posp, keys}},
		{"SELECT * FROM hsm_switches", []string{posp, keys, posv}},
		{"INSERT INTO hsm_switches (hsm_group, instance, run, seq, at, what) VALUES ('online', 'x', 'r', 1, now(), 'state')", []string{posp}},
		{"UPDATE hsm_switches SET by_whom = 'x'", nil},
		{"DELETE FROM hsm_switches", []string{posp, keys}},
		{"SELECT * FROM route_versions", []string{posp, posv}},
		{"INSERT INTO route_versions (version, document, saved_by, instance) VALUES (2, '', 'a', 'b')", []string{posp}},
		{"UPDATE route_versions SET saved_by = 'x'", nil},
		{"DELETE FROM route_versions", nil},
		{"SELECT * FROM audit", []string{posp, keys, issuer, posv}},
		{"INSERT INTO audit (actor, action, object, detail) VALUES ('a', 'b', 'c', '{}') RETURNING seq", []string{posp, keys, issuer, posv}},
		{"UPDATE audit SET actor = 'x'", nil},
		{"DELETE FROM audit", nil},
		{"TRUNCATE audit", nil},
		{"ALTER TABLE audit DISABLE TRIGGER ALL", nil},
		{"SELECT * FROM audit_head", []string{posv}},
		{"UPDATE audit_head SET seq = 0", nil},
		{"INSERT INTO idempotency_keys (service, key, request_digest) VALUES (session_user, 'k', '')", []string{posp, keys, issuer, posv}},
		{"UPDATE idempotency_keys SET status = 200, body = ''", []string{posp, keys, issuer, posv}},
		{"DELETE FROM idempotency_keys", []string{posp, keys, issuer, posv}},
		{"CREATE TABLE mine (n int)", nil},
		{"SET ROLE keyward_owner", nil},
		{"UPDATE schema_migrations SET version = 1", nil},
	}
	pools := seeded(t)
	for _, test := range tests {
		for _, role := range migrations.ServiceRoles() {
			tx, err := pools[role].Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_, err = tx.Exec(t.Context(), test.statement)
			want := refused
			if slices.Contains(test.may, role) {
				want = allowed
			}
			if got := sqlState(err); got != want {
				t.Errorf("%s: %s: SQLSTATE %q, want %q (%v)", role, test.statement, got, want, err)
			}
			if err := tx.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestHSMGroupsAreApart: the front end neither sees nor deletes what is the key service's, and the other way round (P1).
func TestHSMGroupsAreApart(t *testing.T) {
	t.Parallel()
	pools := seeded(t)
	for role, want := range map[string]string{migrations.RolePOSP: "online", migrations.RoleKeys: "issuing", migrations.RolePOSV: "issuing online"} {
		if got := strings.Join(list(t, pools[role], "SELECT hsm_group FROM hsm_lists ORDER BY 1"), " "); got != want {
			t.Errorf("%s sees the lists %q, want %q", role, got, want)
		}
	}
	exec(t, pools[migrations.RoleKeys], "DELETE FROM hsm_switches")
	if left := list(t, pools[migrations.RolePOSV], "SELECT member FROM hsm_switches"); len(left) != 1 {
		t.Errorf("the key service deleted the history of the online group: %d entries are left", len(left))
	}
}

// TestAppendOnlyTables asks the catalogue, so that no column grant and no later table slips through.
func TestAppendOnlyTables(t *testing.T) {
	t.Parallel()
	pools := seeded(t)
	tables := list(t, pools[postgres.Superuser], `SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
		AND relname ~ '^(transactions|audit|issue_orders|issue_order_cards|order_approvals|device_changes|hsm_lists|route_versions|.*_events)(_default|_[0-9]{8})?$' ORDER BY 1`)
	if len(tables) != 14 {
		t.Errorf("append-only tables: %q", tables)
	}
	for _, table := range tables {
		for _, role := range migrations.ServiceRoles() {
			var change bool
			if err := pools[postgres.Superuser].QueryRow(t.Context(),
				"SELECT has_table_privilege($1, $2, 'DELETE, TRUNCATE, TRIGGER') OR has_any_column_privilege($1, $2, 'UPDATE')", role, table).Scan(&change); err != nil || change {
				t.Errorf("%s may change %s: %v, %v", role, table, change, err)
			}
		}
	}
}

// TestServiceRolesAreWeak: no service role is more than a login, owns anything, or is a member of another role.
func TestServiceRolesAreWeak(t *testing.T) {
	t.Parallel()
	pool := admin(t, pgtest.New(t))
	strong := list(t, pool, `SELECT rolname FROM pg_roles WHERE rolname LIKE 'keyward\_%' AND
		(rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls OR (rolname = 'keyward_owner' AND rolcanlogin))`)
	owned := list(t, pool, "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND pg_get_userbyid(relowner) <> 'keyward_owner' AND relname !~ '^schema_migrations'")
	members := list(t, pool, `SELECT member::regrole::text FROM pg_auth_members WHERE member::regrole::text LIKE 'keyward\_%'`)
	functions := list(t, pool, "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND (prosecdef AND proconfig IS NULL OR pg_get_userbyid(proowner) <> 'keyward_owner')")
	if all := slices.Concat(strong, owned, members, functions); len(all) > 0 {
		t.Errorf("too strong or not owned by keyward_owner: %s", strings.Join(all, ", "))
	}
}
