DROP INDEX transactions_preauth;
-- Rows with the newer events stay readable: the older check is put back for what comes after.
ALTER TABLE transactions DROP CONSTRAINT transactions_event_check;
DO $$
DECLARE
    part text;
BEGIN
    FOR part IN SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'public.transactions'::regclass LOOP
        EXECUTE format('ALTER TABLE public.%I DROP CONSTRAINT IF EXISTS transactions_event_check', part);
    END LOOP;
END
$$;
ALTER TABLE transactions ADD CONSTRAINT transactions_event_check CHECK (event IN ('received', 'sending', 'outcome', 'answered',
    'reversal_queued', 'reversal_sent', 'reversal_done', 'note')) NOT VALID;
COMMENT ON COLUMN transactions.event IS 'received, sending, outcome, answered, reversal_queued, reversal_sent, reversal_done or note.';
DROP FUNCTION use_transaction(uuid, uuid, bigint, bigint, boolean, text, date);
DROP TABLE transaction_uses;
ALTER TABLE reversals DROP COLUMN action;
COMMENT ON TABLE reversals IS 'Work list of reversals, one logical reversal per transaction. Written by posp; exactly one instance owns each.';
