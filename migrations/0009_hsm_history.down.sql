DROP TABLE hsm_switches;
DROP TABLE hsm_fences;
DROP FUNCTION hsm_lock();
