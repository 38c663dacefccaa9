ALTER TABLE work_keys DROP COLUMN mak_algorithm;
REVOKE SELECT ON terminal_sign_ons FROM keyward_keys;
DROP TRIGGER keys_tell_posp ON keys;
DROP FUNCTION keys_tell_posp();
DROP TABLE posp_domains;
DROP TABLE rewrap_differences;
DROP INDEX keys_domain;
DROP TABLE key_twins;
DROP TABLE rewrap_jobs;
