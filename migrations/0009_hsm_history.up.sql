-- What happens to the members of the HSM groups (row C6): the history of all instances, and notices of a fenced device, so that every
-- instance looks at it at once. Each service has its own group only, as in hsm_lists.
SET LOCAL ROLE keyward_owner;

CREATE TABLE hsm_fences (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hsm_group text NOT NULL CHECK (hsm_group IN ('online', 'issuing')),
    member    text NOT NULL CHECK (member <> ''),
    instance  text NOT NULL CHECK (instance <> ''),
    reason    text NOT NULL DEFAULT '',
    at        timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX hsm_fences_age ON hsm_fences (at);
COMMENT ON TABLE hsm_fences IS 'Notices that an instance has fenced a member. The others probe it at once and fence it only on their own evidence. Written by posp and the key service.';
COMMENT ON COLUMN hsm_fences.id IS 'Number of the notice, rising.';
COMMENT ON COLUMN hsm_fences.hsm_group IS 'online or issuing.';
COMMENT ON COLUMN hsm_fences.member IS 'The fenced device.';
COMMENT ON COLUMN hsm_fences.instance IS 'Who has fenced it.';
COMMENT ON COLUMN hsm_fences.reason IS 'Why, for example another LMK check value.';
COMMENT ON COLUMN hsm_fences.at IS 'When.';

CREATE TABLE hsm_switches (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hsm_group  text NOT NULL CHECK (hsm_group IN ('online', 'issuing')),
    instance   text NOT NULL CHECK (instance <> ''),
    run        text NOT NULL CHECK (run <> ''),
    seq        bigint NOT NULL CHECK (seq >= 0),
    at         timestamptz NOT NULL,
    phase      text NOT NULL DEFAULT '',
    domain     text NOT NULL DEFAULT '',
    member     text NOT NULL DEFAULT '',
    what       text NOT NULL CHECK (what <> ''),
    from_state text NOT NULL DEFAULT '',
    to_state   text NOT NULL DEFAULT '',
    by_whom    text NOT NULL DEFAULT '',
    reason     text NOT NULL DEFAULT '',
    UNIQUE (instance, hsm_group, run, seq)
);
CREATE INDEX hsm_switches_at ON hsm_switches (at, id);
CREATE INDEX hsm_switches_member ON hsm_switches (member, at);
COMMENT ON TABLE hsm_switches IS 'History of all instances: every change of a member, a domain or the engine, announced before and reported after. Written by posp and the key service, which delete what is older than their retention.';
COMMENT ON COLUMN hsm_switches.id IS 'Order of arrival.';
COMMENT ON COLUMN hsm_switches.hsm_group IS 'online or issuing.';
COMMENT ON COLUMN hsm_switches.instance IS 'Instance that saw or made the switch.';
COMMENT ON COLUMN hsm_switches.run IS 'Start of that process, so that seq is unique over restarts.';
COMMENT ON COLUMN hsm_switches.seq IS 'Number within the run; a gap is entries that were lost while the database was away for too long.';
COMMENT ON COLUMN hsm_switches.at IS 'When it happened, by the clock of the instance.';
COMMENT ON COLUMN hsm_switches.phase IS 'before or after; empty for a notice.';
COMMENT ON COLUMN hsm_switches.domain IS 'LMK domain.';
COMMENT ON COLUMN hsm_switches.member IS 'Device; empty when it is about a domain or the engine.';
COMMENT ON COLUMN hsm_switches.what IS 'state, add, remove, priority, engine, monitoring, list and so on.';
COMMENT ON COLUMN hsm_switches.from_state IS 'Before.';
COMMENT ON COLUMN hsm_switches.to_state IS 'After.';
COMMENT ON COLUMN hsm_switches.by_whom IS 'cluster, or the operator.';
COMMENT ON COLUMN hsm_switches.reason IS 'Why.';

-- Readers follow by the highest number that they have seen, so numbers appear in the order of commits: writers take turns.
CREATE FUNCTION hsm_lock() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('keyward.' || TG_TABLE_NAME, 0));
    RETURN NULL;
END
$$;
CREATE TRIGGER hsm_fences_lock BEFORE INSERT ON hsm_fences FOR EACH STATEMENT EXECUTE FUNCTION hsm_lock();
CREATE TRIGGER hsm_switches_lock BEFORE INSERT ON hsm_switches FOR EACH STATEMENT EXECUTE FUNCTION hsm_lock();

CREATE TRIGGER hsm_fences_notify AFTER INSERT ON hsm_fences FOR EACH ROW EXECUTE FUNCTION hsm_notify();

GRANT SELECT, INSERT, DELETE ON hsm_fences, hsm_switches TO keyward_posp, keyward_keys;
GRANT SELECT ON hsm_fences, hsm_switches TO keyward_posv;

-- Each service sees and writes its own group only; posv sees all.
ALTER TABLE hsm_fences ENABLE ROW LEVEL SECURITY;
ALTER TABLE hsm_switches ENABLE ROW LEVEL SECURITY;
CREATE POLICY hsm_fences_online ON hsm_fences TO keyward_posp USING (hsm_group = 'online');
CREATE POLICY hsm_fences_issuing ON hsm_fences TO keyward_keys USING (hsm_group = 'issuing');
CREATE POLICY hsm_fences_all ON hsm_fences FOR SELECT TO keyward_posv USING (true);
CREATE POLICY hsm_switches_online ON hsm_switches TO keyward_posp USING (hsm_group = 'online');
CREATE POLICY hsm_switches_issuing ON hsm_switches TO keyward_keys USING (hsm_group = 'issuing');
CREATE POLICY hsm_switches_all ON hsm_switches FOR SELECT TO keyward_posv USING (true);
