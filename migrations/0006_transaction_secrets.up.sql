-- Sealed card data in a table of its own, so that the journal is append-only without exception and erasing leaves nothing behind in
-- it: a row here lives until its transaction is final (design §4).
SET LOCAL ROLE keyward_owner;

CREATE TABLE transaction_secrets (
    txn_id        uuid PRIMARY KEY,
    business_date date NOT NULL,
    instance      text NOT NULL,
    open          boolean NOT NULL DEFAULT true,
    sealed        bytea NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX transaction_secrets_open ON transaction_secrets (instance) WHERE open;
CREATE INDEX transaction_secrets_date ON transaction_secrets (business_date);
COMMENT ON TABLE transaction_secrets IS 'What a reversal needs of a card, sealed, while its transaction is not final. Written by posp, which also deletes.';
COMMENT ON COLUMN transaction_secrets.txn_id IS 'Transaction.';
COMMENT ON COLUMN transaction_secrets.business_date IS 'Its business date.';
COMMENT ON COLUMN transaction_secrets.instance IS 'posp instance that works on it.';
COMMENT ON COLUMN transaction_secrets.open IS 'Sent, and neither answered nor final: the next start of the instance brings it to an end.';
COMMENT ON COLUMN transaction_secrets.sealed IS 'The sealed data (AES-256-GCM under a key that the HSM computes).';
COMMENT ON COLUMN transaction_secrets.created_at IS 'When the row was written.';

GRANT SELECT, INSERT, UPDATE, DELETE ON transaction_secrets TO keyward_posp;
