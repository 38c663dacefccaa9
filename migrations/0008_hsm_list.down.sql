DROP TABLE hsm_lists;
DROP FUNCTION hsm_notify();
