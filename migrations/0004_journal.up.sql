-- The journal of transactions and what stands around it (design §4). Append-only for the services: what happened is a row,
-- never a change of a row.
SET LOCAL ROLE keyward_owner;

CREATE TABLE transactions (
    business_date date NOT NULL,
    txn_id        uuid NOT NULL,
    -- One event per try of a reversal, every half minute: two bytes would be used up after some eleven days.
    seq           int NOT NULL CHECK (seq >= 0),
    event         text NOT NULL CHECK (event IN ('received', 'sending', 'outcome', 'answered',
                      'reversal_queued', 'reversal_sent', 'reversal_done', 'note')),
    at            timestamptz NOT NULL DEFAULT now(),
    instance      text NOT NULL DEFAULT '',
    terminal_id   text,
    merchant_id   text,
    batch         text,
    trace         text,
    mti           text,
    kind          text,
    proc_code     text,
    amount        bigint CHECK (amount >= 0),
    currency      text,
    pan_masked    text CHECK (pan_masked ~ '^[0-9]{0,6}\*+[0-9]{0,4}$'),
    pan_digest    bytea,
    host          text,
    host_trace    text,
    rrn           text,
    auth_code     text,
    response_code text,
    outcome       text,
    state         text,
    detail        jsonb,
    PRIMARY KEY (business_date, txn_id, seq)
) PARTITION BY RANGE (business_date);
CREATE INDEX transactions_terminal ON transactions (terminal_id, at);
CREATE INDEX transactions_rrn ON transactions (rrn);
CREATE TABLE transactions_default PARTITION OF transactions DEFAULT;
COMMENT ON TABLE transactions IS 'The journal: one row per event of a transaction, append-only, one partition per business date. Written by posp.';
COMMENT ON COLUMN transactions.business_date IS 'Business date of the transaction; the partition.';
COMMENT ON COLUMN transactions.txn_id IS 'Number of the transaction, the same in all its events.';
COMMENT ON COLUMN transactions.seq IS 'Number of the event within the transaction; with the two above it makes replay idempotent.';
COMMENT ON COLUMN transactions.event IS 'received, sending, outcome, answered, reversal_queued, reversal_sent, reversal_done or note.';
COMMENT ON COLUMN transactions.at IS 'When it happened, by the clock of the instance.';
COMMENT ON COLUMN transactions.instance IS 'posp instance that wrote the event.';
COMMENT ON COLUMN transactions.terminal_id IS 'Field 41.';
COMMENT ON COLUMN transactions.merchant_id IS 'Field 42.';
COMMENT ON COLUMN transactions.batch IS 'Batch number, field 60.2.';
COMMENT ON COLUMN transactions.trace IS 'Trace number of the terminal, field 11.';
COMMENT ON COLUMN transactions.mti IS 'Message type of the terminal''s message.';
COMMENT ON COLUMN transactions.kind IS 'Kind of transaction in the words of the product: purchase, balance …';
COMMENT ON COLUMN transactions.proc_code IS 'Processing code, field 3.';
COMMENT ON COLUMN transactions.amount IS 'Amount in fen (1/100 yuan).';
COMMENT ON COLUMN transactions.currency IS 'ISO 4217 number of the currency, field 49.';
COMMENT ON COLUMN transactions.pan_masked IS 'Card number, at most first 6 and last 4 digits; the check refuses a full one.';
COMMENT ON COLUMN transactions.pan_digest IS 'Keyed digest of the card number, for search.';
COMMENT ON COLUMN transactions.host IS 'Downstream host.';
COMMENT ON COLUMN transactions.host_trace IS 'Trace number sent to the host.';
COMMENT ON COLUMN transactions.rrn IS 'Retrieval reference number, field 37.';
COMMENT ON COLUMN transactions.auth_code IS 'Authorisation code, field 38.';
COMMENT ON COLUMN transactions.response_code IS 'Response code, field 39.';
COMMENT ON COLUMN transactions.outcome IS 'Outcome of the host exchange: answered, not sent or unknown.';
COMMENT ON COLUMN transactions.state IS 'State of the transaction after the event.';
COMMENT ON COLUMN transactions.detail IS 'Further facts, never card or key material.';
COMMENT ON TABLE transactions_default IS 'Safety net for a date without a partition; normally empty. ensure_transaction_partitions moves its rows out.';

-- Creates the partitions of `days` days from `from_date` on, and returns how many were new. Rows that the default partition
-- caught for such a day move into it. Several instances may call it at once. SECURITY DEFINER, because a service may not
-- create tables; the lock time-out keeps one long reader from stalling every writer behind the lock.
CREATE FUNCTION ensure_transaction_partitions(from_date date, days int) RETURNS int
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    day     date;
    part    text;
    created int := 0;
BEGIN
    IF from_date IS NULL OR days IS NULL OR days < 1 OR days > 400 THEN
        RAISE EXCEPTION 'ensure_transaction_partitions: days must be 1 to 400 and from_date must be given' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('keyward.transaction_partitions', 0));
    FOR i IN 0 .. days - 1 LOOP
        day := from_date + i;
        part := 'transactions_' || to_char(day, 'YYYYMMDD');
        CONTINUE WHEN to_regclass('public.' || part) IS NOT NULL;
        EXECUTE format('CREATE TABLE public.%I (LIKE public.transactions INCLUDING ALL)', part);
        EXECUTE format('COMMENT ON TABLE public.%I IS %L', part, 'Journal of business date ' || day::text || '.');
        -- Locked before the look, so that no row slips in between the move and the attachment.
        LOCK TABLE public.transactions_default IN ACCESS EXCLUSIVE MODE;
        IF EXISTS (SELECT FROM public.transactions_default WHERE business_date = day) THEN
            EXECUTE format('WITH moved AS (DELETE FROM public.transactions_default WHERE business_date = %L RETURNING *) '
                           'INSERT INTO public.%I SELECT * FROM moved', day, part);
        END IF;
        -- ATTACH, unlike CREATE ... PARTITION OF, does not lock the whole journal against writers.
        EXECUTE format('ALTER TABLE public.transactions ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)', part, day, day + 1);
        created := created + 1;
    END LOOP;
    RETURN created;
END
$$;
COMMENT ON FUNCTION ensure_transaction_partitions(date, int) IS 'Creates missing daily partitions of the journal; returns how many.';

-- Retention, for the database administrator alone: no service may drop a journal.
CREATE FUNCTION drop_transaction_partitions(keep_days int) RETURNS int
    LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    part    record;
    dropped int := 0;
BEGIN
    IF keep_days IS NULL OR keep_days < 366 THEN
        RAISE EXCEPTION 'drop_transaction_partitions: at least 366 days must be kept (row O9)' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOR part IN SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                WHERE i.inhparent = 'public.transactions'::regclass AND c.relname ~ '^transactions_[0-9]{8}$'
                  AND to_date(right(c.relname, 8), 'YYYYMMDD') < current_date - keep_days LOOP
        EXECUTE format('DROP TABLE public.%I', part.relname);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END
$$;
COMMENT ON FUNCTION drop_transaction_partitions(int) IS 'Drops journal partitions older than so many days, 366 at least. Owner only.';

CREATE TABLE transaction_keys (
    terminal_id    text NOT NULL,
    merchant_id    text NOT NULL,
    batch          text NOT NULL,
    trace          text NOT NULL,
    mti            text NOT NULL,
    type60         text NOT NULL,
    business_date  date NOT NULL,
    content_digest bytea NOT NULL,
    txn_id         uuid NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (terminal_id, merchant_id, batch, trace, mti, type60, business_date)
);
CREATE INDEX transaction_keys_date ON transaction_keys (business_date);
COMMENT ON TABLE transaction_keys IS 'Duplicate check across instances (design §3). Written by posp, which also deletes old days.';
COMMENT ON COLUMN transaction_keys.terminal_id IS 'Field 41.';
COMMENT ON COLUMN transaction_keys.merchant_id IS 'Field 42.';
COMMENT ON COLUMN transaction_keys.batch IS 'Field 60.2.';
COMMENT ON COLUMN transaction_keys.trace IS 'Field 11.';
COMMENT ON COLUMN transaction_keys.mti IS 'Message type.';
COMMENT ON COLUMN transaction_keys.type60 IS 'Field 60.1, the message type code.';
COMMENT ON COLUMN transaction_keys.business_date IS 'Business date.';
COMMENT ON COLUMN transaction_keys.content_digest IS 'Keyed digest of the content without fields 52 and 64: the same key with other content is refused with 94.';
COMMENT ON COLUMN transaction_keys.txn_id IS 'Transaction that holds the key.';
COMMENT ON COLUMN transaction_keys.created_at IS 'When the key was taken.';

CREATE TABLE reversals (
    txn_id        uuid PRIMARY KEY,
    business_date date NOT NULL,
    cause         text NOT NULL,
    state         text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sending', 'done', 'stopped')),
    tries         int NOT NULL DEFAULT 0 CHECK (tries >= 0),
    next_try_at   timestamptz NOT NULL DEFAULT now(),
    owner         text NOT NULL DEFAULT '',
    host          text NOT NULL DEFAULT '',
    host_trace    text NOT NULL DEFAULT '',
    rrn           text NOT NULL DEFAULT '',
    response_code text NOT NULL DEFAULT '',
    sealed        bytea,
    last_error    text NOT NULL DEFAULT '',
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    done_at       timestamptz
);
CREATE INDEX reversals_due ON reversals (next_try_at) WHERE state IN ('pending', 'sending');
CREATE INDEX reversals_owner ON reversals (owner) WHERE state IN ('pending', 'sending');
COMMENT ON TABLE reversals IS 'Work list of reversals, one logical reversal per transaction. Written by posp; exactly one instance owns each.';
COMMENT ON COLUMN reversals.txn_id IS 'Transaction to reverse.';
COMMENT ON COLUMN reversals.business_date IS 'Its business date.';
COMMENT ON COLUMN reversals.cause IS 'Why: host silent, answer not handed over, MAC of the host wrong …';
COMMENT ON COLUMN reversals.state IS 'pending, sending, done, or stopped at the settlement cut-off.';
COMMENT ON COLUMN reversals.tries IS 'How often it was sent.';
COMMENT ON COLUMN reversals.next_try_at IS 'Not before then.';
COMMENT ON COLUMN reversals.owner IS 'posp instance that drives it; empty when free.';
COMMENT ON COLUMN reversals.host IS 'Downstream host.';
COMMENT ON COLUMN reversals.host_trace IS 'Trace number of the original at the host.';
COMMENT ON COLUMN reversals.rrn IS 'Reference number of the original.';
COMMENT ON COLUMN reversals.response_code IS 'Last answer of the host; empty before any.';
COMMENT ON COLUMN reversals.sealed IS 'What the reversal message needs, sealed; null when final.';
COMMENT ON COLUMN reversals.last_error IS 'Last failure, for people; never card material.';
COMMENT ON COLUMN reversals.created_at IS 'When it was queued.';
COMMENT ON COLUMN reversals.updated_at IS 'When the row last changed.';
COMMENT ON COLUMN reversals.done_at IS 'When it was done or stopped.';

CREATE SEQUENCE posp_fences;
COMMENT ON SEQUENCE posp_fences IS 'Fencing numbers of posp instances: rising for ever, so that an older holder can be told from a newer one.';
CREATE TABLE posp_instances (
    instance_id text PRIMARY KEY CHECK (instance_id <> ''),
    name        text NOT NULL DEFAULT '',
    fence       bigint NOT NULL DEFAULT nextval('posp_fences'),
    lease_until timestamptz NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT now(),
    seen_at     timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE posp_instances IS 'Running and past posp instances with their leases. Written by posp.';
COMMENT ON COLUMN posp_instances.instance_id IS 'Identity of the instance, kept with its spool.';
COMMENT ON COLUMN posp_instances.name IS 'Name for people.';
COMMENT ON COLUMN posp_instances.fence IS 'Fencing number of the present lease, from posp_fences.';
COMMENT ON COLUMN posp_instances.lease_until IS 'From then on another instance may adopt its work.';
COMMENT ON COLUMN posp_instances.started_at IS 'When the instance started.';
COMMENT ON COLUMN posp_instances.seen_at IS 'When it last renewed its lease.';

GRANT SELECT, INSERT ON transactions TO keyward_posp;
GRANT SELECT, INSERT, DELETE ON transaction_keys TO keyward_posp;
GRANT SELECT, INSERT, UPDATE ON reversals, posp_instances TO keyward_posp;
GRANT USAGE ON SEQUENCE posp_fences TO keyward_posp;
REVOKE ALL ON FUNCTION ensure_transaction_partitions(date, int), drop_transaction_partitions(int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_transaction_partitions(date, int) TO keyward_posp;
-- posv shows the journal and the work list, without sealed card data.
GRANT SELECT (business_date, txn_id, seq, event, at, instance, terminal_id, merchant_id, batch, trace, mti, kind, proc_code,
              amount, currency, pan_masked, pan_digest, host, host_trace, rrn, auth_code, response_code, outcome, state, detail)
    ON transactions TO keyward_posv;
GRANT SELECT (txn_id, business_date, cause, state, tries, next_try_at, owner, host, host_trace, rrn, response_code,
              last_error, created_at, updated_at, done_at) ON reversals TO keyward_posv;
GRANT SELECT ON posp_instances TO keyward_posv;
