-- The routing of transactions to hosts, which all instances of posp share (row P10): versions of one rules document.
SET LOCAL ROLE keyward_owner;

CREATE TABLE route_versions (
    version  bigint PRIMARY KEY CHECK (version > 0),
    document text NOT NULL CHECK (length(document) <= 262144),
    restores bigint CHECK (restores >= 0 AND restores < version),
    saved_by text NOT NULL CHECK (saved_by <> ''),
    instance text NOT NULL CHECK (instance <> ''),
    reason   text NOT NULL DEFAULT '',
    saved_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE route_versions IS 'Versions of the rules that choose the host of a transaction, append-only; the highest one rules. Written by posp.';
COMMENT ON COLUMN route_versions.version IS 'From 1, without gaps: whoever saves takes the next one, and only one can. Version 0 is that no rules were ever saved.';
COMMENT ON COLUMN route_versions.document IS 'The rules as the operator wrote them (YAML); empty: no rules, the hosts of the configuration in their order.';
COMMENT ON COLUMN route_versions.restores IS 'The earlier version that an undo brought back; null for one that was written.';
COMMENT ON COLUMN route_versions.saved_by IS 'Operator who saved it.';
COMMENT ON COLUMN route_versions.instance IS 'Instance on which it was saved.';
COMMENT ON COLUMN route_versions.reason IS 'Why, in the words of the operator.';
COMMENT ON COLUMN route_versions.saved_at IS 'When it was saved.';

CREATE FUNCTION route_versions_next() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    IF NEW.version > 1 AND NOT EXISTS (SELECT FROM route_versions WHERE version = NEW.version - 1) THEN
        RAISE unique_violation USING MESSAGE = 'version ' || NEW.version || ' of the routing is not the next one';
    END IF;
    PERFORM pg_notify('keyward_route', NEW.version::text);
    RETURN NULL;
END
$$;
CREATE TRIGGER route_versions_next AFTER INSERT ON route_versions FOR EACH ROW EXECUTE FUNCTION route_versions_next();

GRANT SELECT, INSERT ON route_versions TO keyward_posp;
GRANT SELECT ON route_versions TO keyward_posv;
