DROP TRIGGER hsm_lists_next ON hsm_lists;
DROP FUNCTION hsm_lists_next();
