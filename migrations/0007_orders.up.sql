-- Orders to issue cards while they are made and approved (row P1). The key service keeps its own copy of what it accepted in
-- issue_orders; this table is posv's, and no right on it lets anybody derive a key: only the signature does.
SET LOCAL ROLE keyward_owner;

CREATE TABLE orders (
    order_id   uuid PRIMARY KEY,
    author     text NOT NULL CHECK (author <> ''),
    psam_from  text NOT NULL CHECK (psam_from ~ '^[0-9]{20}$'),
    count      int NOT NULL CHECK (count > 0),
    algorithms text[] NOT NULL CHECK (cardinality(algorithms) > 0 AND algorithms <@ ARRAY['tdes', 'sm4']),
    expires_at timestamptz NOT NULL,
    state      text NOT NULL DEFAULT 'draft' CHECK (state IN ('draft', 'signed', 'withdrawn')),
    document   bytea,
    signature  bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CHECK (state <> 'draft' OR (document IS NULL AND signature IS NULL)),
    CHECK (state <> 'signed' OR (document IS NOT NULL AND signature IS NOT NULL))
);
CREATE INDEX orders_open ON orders (expires_at) WHERE state = 'signed';
COMMENT ON TABLE orders IS 'Orders to issue cards, from draft to signature. Written by posv.';
COMMENT ON COLUMN orders.order_id IS 'Number of the order; the signed document carries it.';
COMMENT ON COLUMN orders.author IS 'Who made it. An author may be one of the two approvers.';
COMMENT ON COLUMN orders.psam_from IS 'First PSAM number of the range.';
COMMENT ON COLUMN orders.count IS 'How many cards the range holds.';
COMMENT ON COLUMN orders.algorithms IS 'Algorithms to derive for: tdes, sm4.';
COMMENT ON COLUMN orders.expires_at IS 'No key is derived on this order from then on.';
COMMENT ON COLUMN orders.state IS 'draft, signed (two people approved it) or withdrawn.';
COMMENT ON COLUMN orders.document IS 'The order exactly as signed; null in a draft.';
COMMENT ON COLUMN orders.signature IS 'Ed25519 signature over document; null in a draft.';
COMMENT ON COLUMN orders.created_at IS 'When the draft was made.';
COMMENT ON COLUMN orders.updated_at IS 'When the row last changed.';

CREATE TABLE order_approvals (
    order_id uuid NOT NULL REFERENCES orders,
    approver text NOT NULL CHECK (approver <> ''),
    at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (order_id, approver)
);
COMMENT ON TABLE order_approvals IS 'Who approved which order, append-only, each person once. Written by posv.';
COMMENT ON COLUMN order_approvals.order_id IS 'The order.';
COMMENT ON COLUMN order_approvals.approver IS 'Who approved it.';
COMMENT ON COLUMN order_approvals.at IS 'When.';

-- The range, the author and the expiry of an order never change: what people approved is what is signed.
GRANT SELECT, INSERT, UPDATE (state, document, signature, updated_at) ON orders TO keyward_posv;
GRANT SELECT, INSERT ON order_approvals TO keyward_posv;
