-- Roles of the product. Roles belong to the whole server, not to one database, so creation is idempotent and survives two
-- databases being migrated at the same moment: the loser of the race sees duplicate_object or unique_violation.
-- Every role starts as NOLOGIN without a password; SetPasswords gives the service roles their login.
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['keyward_owner', 'keyward_posp', 'keyward_keys', 'keyward_issuer', 'keyward_posv'] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT NOREPLICATION NOBYPASSRLS', wanted);
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- another database of this server created it first
        END;
    END LOOP;
    -- Whoever migrates must be able to act as the owner. A superuser can already; since PostgreSQL 16 the creator of a role
    -- may administer it but not use it, hence USAGE and not MEMBER.
    IF NOT pg_has_role(current_user, 'keyward_owner', 'USAGE') THEN
        EXECUTE format('GRANT keyward_owner TO %I', current_user);
    END IF;
END
$$;

-- Only the owner creates objects; everybody else may look names up. Two statements that change one catalogue row are safe
-- here, because a schema belongs to one database and migrations of one database run one at a time.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO keyward_owner;
GRANT USAGE ON SCHEMA public TO keyward_posp, keyward_keys, keyward_issuer, keyward_posv;
