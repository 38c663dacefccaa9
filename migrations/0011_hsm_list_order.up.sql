-- The versions of a member list have no gaps (row C2), whoever writes them: a row with the highest number there is would otherwise end
-- the saving of lists for good, because nobody may delete it.
SET LOCAL ROLE keyward_owner;

CREATE FUNCTION hsm_lists_next() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    IF NEW.version > 1 AND NOT EXISTS (SELECT FROM hsm_lists WHERE hsm_group = NEW.hsm_group AND version = NEW.version - 1) THEN
        RAISE unique_violation USING MESSAGE = 'version ' || NEW.version || ' of the ' || NEW.hsm_group || ' list is not the next one';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER hsm_lists_next AFTER INSERT ON hsm_lists FOR EACH ROW EXECUTE FUNCTION hsm_lists_next();
