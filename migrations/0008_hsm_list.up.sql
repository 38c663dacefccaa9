-- The member list of each HSM group, which all instances share, (rows C2, C10). The front end
-- writes the online group and the key service the issuing group: neither can point the other's cryptograms at a device of its choice (P1).
SET LOCAL ROLE keyward_owner;

CREATE TABLE hsm_lists (
    hsm_group text NOT NULL CHECK (hsm_group IN ('online', 'issuing')),
    version   bigint NOT NULL CHECK (version > 0),
    members   jsonb NOT NULL CHECK (jsonb_typeof(members) = 'array'),
    saved_by  text NOT NULL CHECK (saved_by <> ''),
    instance  text NOT NULL CHECK (instance <> ''),
    reason    text NOT NULL DEFAULT '',
    saved_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (hsm_group, version)
);
COMMENT ON TABLE hsm_lists IS 'Versions of the member list of each HSM group, append-only; the highest one rules. Written by posp (online) and the key service (issuing).';
COMMENT ON COLUMN hsm_lists.hsm_group IS 'online or issuing.';
COMMENT ON COLUMN hsm_lists.version IS 'From 1, without gaps: whoever saves takes the next one, and only one can.';
COMMENT ON COLUMN hsm_lists.members IS 'What each member is told to be: name, domain, driver, address, role, priority and so on. No key, no password.';
COMMENT ON COLUMN hsm_lists.saved_by IS 'Operator who saved it.';
COMMENT ON COLUMN hsm_lists.instance IS 'Instance on which it was saved.';
COMMENT ON COLUMN hsm_lists.reason IS 'Why, in the words of the operator.';
COMMENT ON COLUMN hsm_lists.saved_at IS 'When it was saved.';

CREATE FUNCTION hsm_notify() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_notify('keyward_hsm', NEW.hsm_group);
    RETURN NULL;
END
$$;
CREATE TRIGGER hsm_lists_notify AFTER INSERT ON hsm_lists FOR EACH ROW EXECUTE FUNCTION hsm_notify();

GRANT SELECT, INSERT ON hsm_lists TO keyward_posp, keyward_keys;
GRANT SELECT ON hsm_lists TO keyward_posv;

-- Each service sees and writes its own group only; posv sees all.
ALTER TABLE hsm_lists ENABLE ROW LEVEL SECURITY;
CREATE POLICY hsm_lists_online ON hsm_lists TO keyward_posp USING (hsm_group = 'online');
CREATE POLICY hsm_lists_issuing ON hsm_lists TO keyward_keys USING (hsm_group = 'issuing');
CREATE POLICY hsm_lists_all ON hsm_lists FOR SELECT TO keyward_posv USING (true);
