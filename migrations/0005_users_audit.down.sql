DROP TABLE idempotency_keys;
DROP TABLE audit;
DROP FUNCTION audit_chain();
DROP FUNCTION audit_hash(bytea, bigint, timestamptz, text, text, text, text, jsonb);
DROP TABLE audit_head;
DROP TABLE users;
