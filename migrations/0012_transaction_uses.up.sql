-- Transactions that refer to an earlier one (void, refund, completion), and messages that are owed to a host without being a reversal:
-- advices, which are repeated as they are, and refunds of unknown outcome, which people settle (design §3, "In doubt, by type").
SET LOCAL ROLE keyward_owner;

CREATE TABLE transaction_uses (
    txn_id        uuid PRIMARY KEY,
    original      uuid NOT NULL,
    amount        bigint NOT NULL CHECK (amount >= 0),
    alone         boolean NOT NULL,
    state         text NOT NULL DEFAULT 'held' CHECK (state IN ('held', 'kept', 'released')),
    instance      text NOT NULL,
    business_date date NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX transaction_uses_original ON transaction_uses (original);
CREATE INDEX transaction_uses_held ON transaction_uses (instance) WHERE state = 'held';
CREATE INDEX transaction_uses_date ON transaction_uses (business_date);
COMMENT ON TABLE transaction_uses IS 'What later transactions took of an earlier one, so that no two of them take the same money. Written by posp, which also deletes old rows.';
COMMENT ON COLUMN transaction_uses.txn_id IS 'The later transaction.';
COMMENT ON COLUMN transaction_uses.original IS 'The transaction that it refers to.';
COMMENT ON COLUMN transaction_uses.amount IS 'What it takes of the original, in fen.';
COMMENT ON COLUMN transaction_uses.alone IS 'It bears no other use beside it: a void, a completion.';
COMMENT ON COLUMN transaction_uses.state IS 'held while the outcome is open, kept when it was approved, released when it took nothing.';
COMMENT ON COLUMN transaction_uses.instance IS 'posp instance that works on the later transaction.';
COMMENT ON COLUMN transaction_uses.business_date IS 'Business date of the later transaction.';
COMMENT ON COLUMN transaction_uses.created_at IS 'When the row was written.';

-- Takes an amount of an original for a transaction: 'ok', 'taken' when another use does not bear it, or 'over' when the uses together would
-- exceed what is allowed. A use that was itself voided does not count. Uses of one original queue behind its lock; the same transaction may ask again.
CREATE FUNCTION use_transaction(use_id uuid, original_id uuid, wanted bigint, allowed bigint, wants_alone boolean, by_instance text, on_date date)
    RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    uses  bigint;
    taken bigint;
    alone_too boolean;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('keyward.use:' || original_id::text, 0));
    IF EXISTS (SELECT FROM transaction_uses u WHERE u.txn_id = use_id AND u.state <> 'released') THEN
        RETURN 'ok';
    END IF;
    SELECT count(*), coalesce(sum(u.amount), 0), coalesce(bool_or(u.alone), false) INTO uses, taken, alone_too
      FROM transaction_uses u
     WHERE u.original = original_id AND u.state <> 'released'
       AND NOT EXISTS (SELECT FROM transaction_uses v WHERE v.original = u.txn_id AND v.alone AND v.state = 'kept');
    IF alone_too OR (wants_alone AND uses > 0) THEN
        RETURN 'taken';
    END IF;
    IF taken + wanted > allowed THEN
        RETURN 'over';
    END IF;
    INSERT INTO transaction_uses (txn_id, original, amount, alone, instance, business_date)
    VALUES (use_id, original_id, wanted, wants_alone, by_instance, on_date)
    ON CONFLICT (txn_id) DO UPDATE SET state = 'held', original = excluded.original, amount = excluded.amount, alone = excluded.alone;
    RETURN 'ok';
END
$$;
COMMENT ON FUNCTION use_transaction(uuid, uuid, bigint, bigint, boolean, text, date) IS 'Takes an amount of an earlier transaction for a later one: ok, taken or over.';

ALTER TABLE reversals ADD COLUMN action text NOT NULL DEFAULT 'reverse' CHECK (action IN ('reverse', 'repeat', 'reconcile'));
COMMENT ON TABLE reversals IS 'Work list of what is owed after an unknown outcome, at most one entry per transaction. Written by posp; exactly one instance owns each.';
COMMENT ON COLUMN reversals.action IS 'reverse: a reversal is sent until it is answered; repeat: an advice is sent again until it is answered; reconcile: people settle it, nothing is sent (state stopped).';

-- Two more events. The partitions carry a copy of the check each.
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
    'reversal_queued', 'reversal_sent', 'reversal_done', 'repeated', 'delivered', 'note'));
COMMENT ON COLUMN transactions.event IS 'received, sending, outcome, answered, reversal_queued, reversal_sent, reversal_done, repeated, delivered or note.';

-- A completion may come from another terminal of the merchant, months later: it names card and authorisation code.
CREATE INDEX transactions_preauth ON transactions (pan_digest) WHERE kind = 'preauth' AND event = 'outcome';

GRANT SELECT, INSERT, UPDATE, DELETE ON transaction_uses TO keyward_posp;
GRANT SELECT ON transaction_uses TO keyward_posv;
GRANT SELECT (action) ON reversals TO keyward_posv;
REVOKE ALL ON FUNCTION use_transaction(uuid, uuid, bigint, bigint, boolean, text, date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION use_transaction(uuid, uuid, bigint, bigint, boolean, text, date) TO keyward_posp;
