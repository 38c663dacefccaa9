-- Moving keys from one LMK domain to another (rows C7 and X13): jobs, twins of keys in another domain, differences, and what each
-- posp is configured with. No clear key is ever stored.
SET LOCAL ROLE keyward_owner;

CREATE TABLE rewrap_jobs (
    job_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    from_domain text NOT NULL CHECK (from_domain <> ''),
    to_domain   text NOT NULL CHECK (to_domain <> '' AND to_domain <> from_domain),
    method      text NOT NULL CHECK (method IN ('translate', 'zmk')),
    zmk_key_id  bigint REFERENCES keys,
    state       text NOT NULL DEFAULT 'planned' CHECK (state IN ('planned', 'copying', 'paused', 'copied', 'switching', 'switched',
                    'returning', 'retiring', 'retired', 'failed', 'cancelling', 'cancelled')),
    rate        int NOT NULL CHECK (rate BETWEEN 1 AND 1000),
    share       int NOT NULL DEFAULT 0 CHECK (share BETWEEN 0 AND 100),
    names       text[] NOT NULL DEFAULT '{}',
    started_by  text NOT NULL CHECK (started_by <> ''),
    ordered_by  text NOT NULL CHECK (ordered_by <> ''),
    trouble     text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    copied_at   timestamptz,
    switched_at timestamptz,
    ended_at    timestamptz,
    CHECK ((method = 'zmk') = (zmk_key_id IS NOT NULL))
);
-- Whatever the program checks, two open jobs never share a pair of domains, in whichever direction.
CREATE UNIQUE INDEX rewrap_jobs_one_per_pair ON rewrap_jobs (least(from_domain, to_domain), greatest(from_domain, to_domain))
    WHERE state NOT IN ('retired', 'cancelled');
COMMENT ON TABLE rewrap_jobs IS 'Moves of all keys of one LMK domain to another. Written by the key service.';
COMMENT ON COLUMN rewrap_jobs.job_id IS 'Number of the job, rising.';
COMMENT ON COLUMN rewrap_jobs.from_domain IS 'LMK domain that the keys leave.';
COMMENT ON COLUMN rewrap_jobs.to_domain IS 'LMK domain that they move to.';
COMMENT ON COLUMN rewrap_jobs.method IS 'translate: inside a device that holds both LMKs. zmk: out of the one and into the other under a zone master key.';
COMMENT ON COLUMN rewrap_jobs.zmk_key_id IS 'The zone master key of method zmk, which has a twin in the other domain.';
COMMENT ON COLUMN rewrap_jobs.state IS 'Where the job is (docs/states.md).';
COMMENT ON COLUMN rewrap_jobs.rate IS 'Keys copied per second at most.';
COMMENT ON COLUMN rewrap_jobs.share IS 'Percent of the cards whose keys are ordered to work in the new domain; 100: every key.';
COMMENT ON COLUMN rewrap_jobs.names IS 'Further keys, by name, that are ordered to work in the new domain.';
COMMENT ON COLUMN rewrap_jobs.started_by IS 'Who started it.';
COMMENT ON COLUMN rewrap_jobs.ordered_by IS 'Who gave the last order: pause, switch, retire …';
COMMENT ON COLUMN rewrap_jobs.trouble IS 'Why it failed or what keeps it waiting; empty otherwise.';
COMMENT ON COLUMN rewrap_jobs.created_at IS 'When it was started.';
COMMENT ON COLUMN rewrap_jobs.updated_at IS 'When the row last changed.';
COMMENT ON COLUMN rewrap_jobs.copied_at IS 'When every key was first copied.';
COMMENT ON COLUMN rewrap_jobs.switched_at IS 'When the last order to switch was fulfilled.';
COMMENT ON COLUMN rewrap_jobs.ended_at IS 'When it was retired or cancelled.';

CREATE TABLE key_twins (
    twin_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key_id      bigint NOT NULL REFERENCES keys,
    job_id      bigint REFERENCES rewrap_jobs,
    lmk_domain  text NOT NULL CHECK (lmk_domain <> ''),
    cryptogram  text CHECK (cryptogram <> ''),
    kcv_before  text CHECK (kcv_before ~ '^[0-9A-F]{6,32}$'),
    kcv_after   text NOT NULL CHECK (kcv_after ~ '^[0-9A-F]{6,32}$'),
    imported    boolean NOT NULL DEFAULT false,
    made_at     timestamptz NOT NULL DEFAULT now(),
    switched_at timestamptz,
    erased_at   timestamptz,
    UNIQUE (job_id, key_id),
    CHECK ((cryptogram IS NULL) = (erased_at IS NOT NULL))
);
CREATE UNIQUE INDEX key_twins_one_per_domain ON key_twins (key_id, lmk_domain) WHERE cryptogram IS NOT NULL;
CREATE INDEX key_twins_pace ON key_twins (job_id, made_at);
CREATE INDEX key_twins_domain ON key_twins (lmk_domain, key_id) WHERE cryptogram IS NOT NULL;
CREATE INDEX key_twins_job ON key_twins (job_id, twin_id);
CREATE INDEX keys_domain ON keys (lmk_domain, key_id);
COMMENT ON TABLE key_twins IS 'The same key under the LMK of another domain than its row in keys says, with the proof by check values. Written by the key service.';
COMMENT ON COLUMN key_twins.twin_id IS 'Number of the twin, rising.';
COMMENT ON COLUMN key_twins.key_id IS 'The key.';
COMMENT ON COLUMN key_twins.job_id IS 'Job that made or took over the twin; null for one that came from a ceremony.';
COMMENT ON COLUMN key_twins.lmk_domain IS 'LMK domain of cryptogram. A switch exchanges it, with the cryptogram, for that of the row in keys.';
COMMENT ON COLUMN key_twins.cryptogram IS 'The key under that LMK; null once erased. The proof stays.';
COMMENT ON COLUMN key_twins.kcv_before IS 'Check value that the HSM computed in the domain that the key leaves; null before a job has proven the twin.';
COMMENT ON COLUMN key_twins.kcv_after IS 'Check value that the HSM computed in the domain that it moves to.';
COMMENT ON COLUMN key_twins.imported IS 'The twin came from a ceremony; cancelling a job leaves it.';
COMMENT ON COLUMN key_twins.made_at IS 'When the twin was made.';
COMMENT ON COLUMN key_twins.switched_at IS 'When the key began to work in the new domain; null while it works in the old one.';
COMMENT ON COLUMN key_twins.erased_at IS 'When the cryptogram was erased.';

CREATE TABLE rewrap_differences (
    job_id     bigint NOT NULL REFERENCES rewrap_jobs,
    key_id     bigint NOT NULL REFERENCES keys,
    reason     text NOT NULL CHECK (reason <> ''),
    kcv_before text NOT NULL DEFAULT '',
    kcv_after  text NOT NULL DEFAULT '',
    at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (job_id, key_id)
);
COMMENT ON TABLE rewrap_differences IS 'Keys that a job could not move with proof. Written by the key service; a new try deletes the row.';
COMMENT ON COLUMN rewrap_differences.job_id IS 'The job.';
COMMENT ON COLUMN rewrap_differences.key_id IS 'The key.';
COMMENT ON COLUMN rewrap_differences.reason IS 'What was found, as a sentence.';
COMMENT ON COLUMN rewrap_differences.kcv_before IS 'Check value in the old domain, as far as there is one.';
COMMENT ON COLUMN rewrap_differences.kcv_after IS 'Check value in the new domain, as far as there is one.';
COMMENT ON COLUMN rewrap_differences.at IS 'When it was found.';

CREATE TABLE posp_domains (
    instance_id text NOT NULL CHECK (instance_id <> ''),
    place       text NOT NULL CHECK (place <> ''),
    usage       text NOT NULL DEFAULT '',
    domains     text[] NOT NULL CHECK (cardinality(domains) > 0),
    seen_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (instance_id, place)
);
COMMENT ON TABLE posp_domains IS 'LMK domains that each posp is configured for, without any key: so that no key moves to where a posp cannot follow. Written by posp.';
COMMENT ON COLUMN posp_domains.instance_id IS 'The instance.';
COMMENT ON COLUMN posp_domains.place IS 'hsm for its group of devices, else the setting that holds a key: hosts.bank.zpk, seal_key …';
COMMENT ON COLUMN posp_domains.usage IS 'Usage of the configured key; empty for the group of devices.';
COMMENT ON COLUMN posp_domains.domains IS 'LMK domains: that of the setting first, then those of its twins.';
COMMENT ON COLUMN posp_domains.seen_at IS 'When the instance last said so.';

-- posp keeps a copy of the cards' master keys: it reads a terminal again whenever its card's key has another cryptogram or state.
CREATE FUNCTION keys_tell_posp() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    concerned text[];
BEGIN
    SELECT array_agg(DISTINCT b.terminal_id) INTO concerned
      FROM after_rows n JOIN before_rows o USING (key_id) JOIN bindings b ON n.name = 'PSAM:' || b.psam_no AND b.valid_to IS NULL
     WHERE n.usage = 'tmk' AND (n.state, n.lmk_domain, n.cryptogram, n.kcv) IS DISTINCT FROM (o.state, o.lmk_domain, o.cryptogram, o.kcv);
    IF concerned IS NOT NULL THEN
        INSERT INTO device_changes (terminal_id, kind) SELECT c, 'master key' FROM unnest(concerned) AS c ORDER BY c;
    END IF;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION keys_tell_posp() FROM PUBLIC;
CREATE TRIGGER keys_tell_posp AFTER UPDATE ON keys REFERENCING OLD TABLE AS before_rows NEW TABLE AS after_rows
    FOR EACH STATEMENT EXECUTE FUNCTION keys_tell_posp();
COMMENT ON COLUMN device_changes.kind IS 'What changed: merchant, terminal, card, binding or master key.';
COMMENT ON TABLE device_changes IS 'Feed of changes for the copies that posp keeps, append-only. posv inserts one row per terminal concerned, in the transaction of the change; a trigger of keys does so for master keys.';

-- The length of a cryptogram told a single-length MAK from a double one; that of a key block does not.
ALTER TABLE work_keys ADD COLUMN mak_algorithm text CHECK (mak_algorithm IN ('des', 'tdes', 'sm4'));
COMMENT ON COLUMN work_keys.mak_algorithm IS 'Algorithm of the MAC key; null in rows of older programs, which had no key blocks.';

GRANT SELECT, INSERT, UPDATE ON rewrap_jobs TO keyward_keys;
-- A destroyed key loses its twins: UPDATE erases, DELETE is never needed. Differences go when a key is tried again.
GRANT SELECT, INSERT, UPDATE ON key_twins TO keyward_keys;
GRANT SELECT, INSERT, UPDATE, DELETE ON rewrap_differences TO keyward_keys;
GRANT SELECT ON posp_domains, terminal_sign_ons TO keyward_keys;
GRANT SELECT, INSERT, UPDATE, DELETE ON posp_domains TO keyward_posp;
GRANT SELECT ON rewrap_jobs, rewrap_differences, posp_domains TO keyward_posv;
GRANT SELECT (twin_id, key_id, job_id, lmk_domain, kcv_before, kcv_after, imported, made_at, switched_at, erased_at) ON key_twins TO keyward_posv;
