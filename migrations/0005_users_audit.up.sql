-- People, what they and the services did, and requests that may be repeated.
SET LOCAL ROLE keyward_owner;

CREATE TABLE users (
    user_id       text PRIMARY KEY CHECK (user_id <> ''),
    name          text NOT NULL,
    role          text NOT NULL CHECK (role IN ('viewer', 'operator', 'administrator',
                      'key_administrator', 'key_operator', 'key_custodian', 'key_auditor')),
    password_hash text NOT NULL,
    state         text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'suspended', 'retired')),
    created_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE users IS 'People who may use the console. Written by posv.';
COMMENT ON COLUMN users.user_id IS 'Login name.';
COMMENT ON COLUMN users.name IS 'Name of the person.';
COMMENT ON COLUMN users.role IS 'One role each, so the auditor can hold no other (row G5).';
COMMENT ON COLUMN users.password_hash IS 'Salted slow hash in its own text form; never a password.';
COMMENT ON COLUMN users.state IS 'active, suspended or retired; only active users may log in.';
COMMENT ON COLUMN users.created_at IS 'When the user was created.';

CREATE TABLE audit (
    seq       bigint PRIMARY KEY,
    at        timestamptz NOT NULL,
    service   text NOT NULL,
    actor     text NOT NULL CHECK (actor <> ''),
    action    text NOT NULL CHECK (action <> ''),
    object    text NOT NULL DEFAULT '',
    detail    jsonb NOT NULL DEFAULT '{}',
    prev_hash bytea NOT NULL,
    hash      bytea NOT NULL
);
CREATE INDEX audit_object ON audit (object, seq);
COMMENT ON TABLE audit IS 'Audit records, append-only, chained by SHA-256 (row X2). Any service inserts actor, action, object and detail; a trigger sets the rest.';
COMMENT ON COLUMN audit.seq IS 'Number in the chain, 1, 2, 3 … without gaps.';
COMMENT ON COLUMN audit.at IS 'When the record was written, by the clock of the database.';
COMMENT ON COLUMN audit.service IS 'Service that wrote it, from the role that is logged in: posp, keys, issuer or posv. It cannot be chosen.';
COMMENT ON COLUMN audit.actor IS 'User or service on whose behalf it was done.';
COMMENT ON COLUMN audit.action IS 'What was done.';
COMMENT ON COLUMN audit.object IS 'What it was done to.';
COMMENT ON COLUMN audit.detail IS 'Further facts, never key or card material.';
COMMENT ON COLUMN audit.prev_hash IS 'hash of the record before; 32 zero bytes for the first.';
COMMENT ON COLUMN audit.hash IS 'SHA-256 over prev_hash and the record, see audit_hash.';

CREATE TABLE audit_head (
    one  boolean PRIMARY KEY DEFAULT true CHECK (one),
    seq  bigint NOT NULL,
    hash bytea NOT NULL
);
INSERT INTO audit_head (seq, hash) VALUES (0, decode(repeat('00', 32), 'hex'));
COMMENT ON TABLE audit_head IS 'Head of the audit chain, one row: writers queue at it, and a cut tail of the chain shows against it. Written by the trigger only.';
COMMENT ON COLUMN audit_head.one IS 'Always true: there is one row.';
COMMENT ON COLUMN audit_head.seq IS 'seq of the newest audit record.';
COMMENT ON COLUMN audit_head.hash IS 'hash of the newest audit record.';

-- The hash of one record: SHA-256(prev_hash || fields), each field as UTF-8 text written length ':' text ',' with the length in
-- bytes, in the order seq, at, service, actor, action, object, detail. at is UTC as 2006-01-02T15:04:05.000000Z. The lengths
-- keep two different records from having the same bytes. docs/database.md tells an offline verifier the same.
CREATE FUNCTION audit_hash(prev_hash bytea, seq bigint, at timestamptz, service text, actor text, action text, object text, detail jsonb)
    RETURNS bytea LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT sha256(prev_hash || convert_to(string_agg(octet_length(convert_to(field, 'UTF8'))::text || ':' || field || ',', '' ORDER BY place), 'UTF8'))
    FROM unnest(ARRAY[seq::text, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                      service, actor, action, object, detail::text]) WITH ORDINALITY AS fields (field, place)
$$;
COMMENT ON FUNCTION audit_hash(bytea, bigint, timestamptz, text, text, text, text, jsonb) IS 'Hash of one audit record.';

-- Sets everything that a service must not choose: number, time, service and chain. The update of the head locks it until
-- commit, so the order of the chain is the order of commits; under a stricter isolation level the loser fails and repeats.
CREATE FUNCTION audit_chain() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    head public.audit_head;
    me   text := regexp_replace(session_user, '^keyward_', '');
BEGIN
    IF NEW.service IS NOT NULL AND NEW.service <> me AND session_user LIKE 'keyward\_%' THEN
        RAISE EXCEPTION 'audit: role % may not write as service %', session_user, NEW.service USING ERRCODE = 'insufficient_privilege';
    END IF;
    UPDATE public.audit_head SET seq = seq WHERE one RETURNING * INTO STRICT head;
    NEW.seq := head.seq + 1;
    NEW.at := clock_timestamp();
    NEW.service := coalesce(NEW.service, me);
    NEW.prev_hash := head.hash;
    NEW.hash := public.audit_hash(head.hash, NEW.seq, NEW.at, NEW.service, NEW.actor, NEW.action, NEW.object, NEW.detail);
    UPDATE public.audit_head SET seq = NEW.seq, hash = NEW.hash WHERE one;
    RETURN NEW;
END
$$;
CREATE TRIGGER audit_chain BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION audit_chain();

CREATE TABLE idempotency_keys (
    service        text NOT NULL,
    key            text NOT NULL CHECK (key <> ''),
    request_digest bytea NOT NULL,
    status         int,
    body           bytea,
    created_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (service, key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);
COMMENT ON TABLE idempotency_keys IS 'Answers to requests that carried an idempotency key. Written by every service, each under its own name.';
COMMENT ON COLUMN idempotency_keys.service IS 'Service that took the request.';
COMMENT ON COLUMN idempotency_keys.key IS 'Key that the caller chose.';
COMMENT ON COLUMN idempotency_keys.request_digest IS 'Digest of the request: the same key with another request is refused.';
COMMENT ON COLUMN idempotency_keys.status IS 'HTTP status of the answer; null while the request is under way.';
COMMENT ON COLUMN idempotency_keys.body IS 'Body of the answer; null while the request is under way.';
COMMENT ON COLUMN idempotency_keys.created_at IS 'When the key was first seen.';

GRANT SELECT, INSERT, UPDATE ON users TO keyward_posv;
GRANT SELECT, INSERT ON audit TO keyward_posp, keyward_keys, keyward_issuer, keyward_posv;
GRANT SELECT ON audit_head TO keyward_posv;
REVOKE ALL ON FUNCTION audit_chain() FROM PUBLIC;
GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency_keys TO keyward_posp, keyward_keys, keyward_issuer, keyward_posv;
