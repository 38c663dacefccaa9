SET LOCAL ROLE keyward_owner;

ALTER TABLE transactions ALTER COLUMN seq TYPE smallint;
ALTER TABLE transactions ADD COLUMN sealed bytea;
COMMENT ON COLUMN transactions.sealed IS 'What a reversal or a repeated answer needs, sealed; erased by erase_transaction_sealed when final.';

CREATE FUNCTION erase_transaction_sealed(of_date date, of_txn uuid) RETURNS int
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    erased int;
BEGIN
    UPDATE public.transactions SET sealed = NULL WHERE business_date = of_date AND txn_id = of_txn AND sealed IS NOT NULL;
    GET DIAGNOSTICS erased = ROW_COUNT;
    RETURN erased;
END
$$;
COMMENT ON FUNCTION erase_transaction_sealed(date, uuid) IS 'Erases the sealed data of one transaction; returns how many rows had any.';
REVOKE ALL ON FUNCTION erase_transaction_sealed(date, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION erase_transaction_sealed(date, uuid) TO keyward_posp;

DROP TABLE transaction_secrets;
