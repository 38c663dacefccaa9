-- The roles stay: they belong to the whole server and another database may use them. Without grants they can do nothing here.
REVOKE USAGE ON SCHEMA public FROM keyward_posp, keyward_keys, keyward_issuer, keyward_posv;
REVOKE USAGE, CREATE ON SCHEMA public FROM keyward_owner;
