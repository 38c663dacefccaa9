-- Keys and their issue (rows P1, P2, P6). No clear key is ever stored: every cryptogram is under the LMK of the domain that
-- its row names, so that a change of LMK is a migration and not a flag day (row C7).
SET LOCAL ROLE keyward_owner;

CREATE TABLE issue_orders (
    order_id   uuid PRIMARY KEY,
    psam_from  text NOT NULL CHECK (psam_from ~ '^[0-9]{20}$'),
    count      int NOT NULL CHECK (count > 0),
    algorithms text[] NOT NULL CHECK (cardinality(algorithms) > 0),
    expires_at timestamptz NOT NULL,
    approvers  text[] NOT NULL CHECK (cardinality(approvers) > 0),
    signature  bytea NOT NULL,
    document   bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE issue_orders IS 'Signed orders to derive card keys, as the key service accepted them, append-only. Written by the key service.';
COMMENT ON COLUMN issue_orders.order_id IS 'Number of the order, chosen by its author.';
COMMENT ON COLUMN issue_orders.psam_from IS 'First PSAM number of the range.';
COMMENT ON COLUMN issue_orders.count IS 'How many cards the range holds.';
COMMENT ON COLUMN issue_orders.algorithms IS 'Algorithms to derive for: tdes, sm4.';
COMMENT ON COLUMN issue_orders.expires_at IS 'No key is derived on this order from then on.';
COMMENT ON COLUMN issue_orders.approvers IS 'Who approved it.';
COMMENT ON COLUMN issue_orders.signature IS 'Signature over document.';
COMMENT ON COLUMN issue_orders.document IS 'The order exactly as signed.';
COMMENT ON COLUMN issue_orders.created_at IS 'When the key service first saw it.';

CREATE TABLE keys (
    key_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name         text NOT NULL CHECK (name <> ''),
    usage        text NOT NULL CHECK (usage <> ''),
    algorithm    text NOT NULL CHECK (algorithm <> ''),
    version      int NOT NULL CHECK (version > 0),
    lmk_domain   text NOT NULL CHECK (lmk_domain <> ''),
    cryptogram   text CHECK (cryptogram <> ''),
    kcv          text CHECK (kcv ~ '^[0-9A-F]{4,16}$'),
    length_bits  int NOT NULL CHECK (length_bits > 0),
    state        text NOT NULL DEFAULT 'intended' CHECK (state IN
                     ('intended', 'active', 'suspended', 'retired', 'destroyed', 'failed')),
    parent_id    bigint REFERENCES keys,
    factors      text[] NOT NULL DEFAULT '{}',
    order_id     uuid REFERENCES issue_orders DEFERRABLE INITIALLY DEFERRED,
    created_at   timestamptz NOT NULL DEFAULT now(),
    activated_at timestamptz,
    ended_at     timestamptz,
    UNIQUE (name, usage, algorithm, version),
    CHECK (state NOT IN ('active', 'suspended', 'retired') OR (cryptogram IS NOT NULL AND kcv IS NOT NULL)),
    CHECK (state <> 'destroyed' OR cryptogram IS NULL)
);
CREATE INDEX keys_parent ON keys (parent_id);
CREATE INDEX keys_order ON keys (order_id);
COMMENT ON TABLE keys IS 'Root, card and zone keys as cryptograms under an LMK. Written by the key service; the intent is stored before the HSM is asked.';
COMMENT ON COLUMN keys.key_id IS 'Number of the key, rising.';
COMMENT ON COLUMN keys.name IS 'PSAM-ROOT, PSAM: and the PSAM number, or ZONE: and the host.';
COMMENT ON COLUMN keys.usage IS 'What the key may be used for.';
COMMENT ON COLUMN keys.algorithm IS 'tdes, sm4 …';
COMMENT ON COLUMN keys.version IS 'Version of the key under its name, from 1.';
COMMENT ON COLUMN keys.lmk_domain IS 'LMK domain that the cryptogram belongs to.';
COMMENT ON COLUMN keys.cryptogram IS 'The key under the LMK, with its scheme letter; null while intended, after failure and after destruction.';
COMMENT ON COLUMN keys.kcv IS 'Key check value, upper-case hex.';
COMMENT ON COLUMN keys.length_bits IS 'Length of the key in bits.';
COMMENT ON COLUMN keys.state IS 'intended, active, suspended, retired, destroyed or failed.';
COMMENT ON COLUMN keys.parent_id IS 'Key that this one was derived from; null for a root or a received key.';
COMMENT ON COLUMN keys.factors IS 'Diversification factors, outermost level first, upper-case hex.';
COMMENT ON COLUMN keys.order_id IS 'Order under which the key was derived.';
COMMENT ON COLUMN keys.created_at IS 'When the intent was stored.';
COMMENT ON COLUMN keys.activated_at IS 'When the key became active.';
COMMENT ON COLUMN keys.ended_at IS 'When it was retired, destroyed or failed.';

CREATE TABLE key_events (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key_id     bigint NOT NULL REFERENCES keys,
    event      text NOT NULL CHECK (event <> ''),
    from_state text,
    to_state   text,
    actor      text NOT NULL CHECK (actor <> ''),
    at         timestamptz NOT NULL DEFAULT now(),
    detail     jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX key_events_key ON key_events (key_id, id);
COMMENT ON TABLE key_events IS 'History of keys, append-only. Written by the key service.';
COMMENT ON COLUMN key_events.id IS 'Number of the event, rising.';
COMMENT ON COLUMN key_events.key_id IS 'Key that the event is about.';
COMMENT ON COLUMN key_events.event IS 'What happened, as one word: intended, derived, exported, retired …';
COMMENT ON COLUMN key_events.from_state IS 'State before; null when the event changed none.';
COMMENT ON COLUMN key_events.to_state IS 'State after; null when the event changed none.';
COMMENT ON COLUMN key_events.actor IS 'User or service that did it.';
COMMENT ON COLUMN key_events.at IS 'When it happened.';
COMMENT ON COLUMN key_events.detail IS 'Further facts, never key material.';

CREATE TABLE issue_order_cards (
    order_id uuid NOT NULL REFERENCES issue_orders DEFERRABLE INITIALLY DEFERRED,
    psam_no  text NOT NULL CHECK (psam_no ~ '^[0-9]{20}$'),
    key_id   bigint NOT NULL REFERENCES keys DEFERRABLE INITIALLY DEFERRED,
    at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (order_id, psam_no)
);
COMMENT ON TABLE issue_order_cards IS 'Cards already served under an order, append-only: an order is used up card by card. Written by the key service.';
COMMENT ON COLUMN issue_order_cards.order_id IS 'The order.';
COMMENT ON COLUMN issue_order_cards.psam_no IS 'The card.';
COMMENT ON COLUMN issue_order_cards.key_id IS 'Key derived for it.';
COMMENT ON COLUMN issue_order_cards.at IS 'When it was derived.';

CREATE TABLE issue_runs (
    run_id          uuid PRIMARY KEY,
    psam_no         text NOT NULL CHECK (psam_no ~ '^[0-9]{20}$'),
    order_id        uuid NOT NULL,
    state           text NOT NULL DEFAULT 'started' CHECK (state IN
                        ('started', 'derived', 'written', 'verified', 'personalised', 'failed')),
    step            text NOT NULL DEFAULT '',
    error           text NOT NULL DEFAULT '',
    idempotency_key text UNIQUE,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX issue_runs_card ON issue_runs (psam_no, created_at);
COMMENT ON TABLE issue_runs IS 'Runs of the issuer, one per attempt to write a card, so that a crash leaves a record of how far it came. Written by issuer.';
COMMENT ON COLUMN issue_runs.run_id IS 'Number of the run.';
COMMENT ON COLUMN issue_runs.psam_no IS 'Card to write.';
COMMENT ON COLUMN issue_runs.order_id IS 'Order the run works under; not a reference, because the key service may not have seen it yet.';
COMMENT ON COLUMN issue_runs.state IS 'started, derived, written, verified, personalised or failed.';
COMMENT ON COLUMN issue_runs.step IS 'Step under way or failed.';
COMMENT ON COLUMN issue_runs.error IS 'Why it failed; empty otherwise.';
COMMENT ON COLUMN issue_runs.idempotency_key IS 'Key of the request: the same request again finds this run.';
COMMENT ON COLUMN issue_runs.created_at IS 'When the run began.';
COMMENT ON COLUMN issue_runs.updated_at IS 'When the row last changed.';

CREATE TABLE work_keys (
    terminal_id    text NOT NULL CHECK (terminal_id ~ '^[0-9A-Za-z]{8}$'),
    version        bigint NOT NULL CHECK (version > 0),
    state          text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'active', 'grace', 'ended', 'expired')),
    algorithm      text NOT NULL CHECK (algorithm IN ('des', 'tdes', 'sm4')),
    lmk_domain     text NOT NULL CHECK (lmk_domain <> ''),
    master_key_id  bigint,
    psam_no        text,
    pik            text NOT NULL,
    pik_kcv        text NOT NULL CHECK (pik_kcv ~ '^[0-9A-F]{4,16}$'),
    mak            text NOT NULL,
    mak_kcv        text NOT NULL CHECK (mak_kcv ~ '^[0-9A-F]{4,16}$'),
    tdk            text,
    tdk_kcv        text CHECK (tdk_kcv ~ '^[0-9A-F]{4,16}$'),
    answer         bytea NOT NULL,
    request_digest bytea NOT NULL,
    digest         bytea NOT NULL,
    made_at        timestamptz NOT NULL DEFAULT now(),
    expires_at     timestamptz NOT NULL,
    first_used_at  timestamptz,
    ends_at        timestamptz,
    batch          text NOT NULL DEFAULT '',
    PRIMARY KEY (terminal_id, version),
    -- Deferred, because activating a set moves two rows and either may be updated first.
    CONSTRAINT work_keys_one_active EXCLUDE USING btree (terminal_id WITH =) WHERE (state = 'active') DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT work_keys_one_grace EXCLUDE USING btree (terminal_id WITH =) WHERE (state = 'grace') DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX work_keys_expiry ON work_keys (expires_at) WHERE state = 'pending';
COMMENT ON TABLE work_keys IS 'Working key sets of terminals, one version per sign-on: pending until used, then active, then in grace for at most 120 s. Written by posp.';
COMMENT ON COLUMN work_keys.terminal_id IS 'Terminal that the set belongs to.';
COMMENT ON COLUMN work_keys.version IS 'Rising per terminal, from 1.';
COMMENT ON COLUMN work_keys.state IS 'pending, active, grace, ended or expired. At most one active and one in grace per terminal.';
COMMENT ON COLUMN work_keys.algorithm IS 'des, tdes or sm4, from the registry.';
COMMENT ON COLUMN work_keys.lmk_domain IS 'LMK domain of the cryptograms pik, mak and tdk.';
COMMENT ON COLUMN work_keys.master_key_id IS 'Card master key (keys.key_id) that the set went out under.';
COMMENT ON COLUMN work_keys.psam_no IS 'Card that was bound at sign-on.';
COMMENT ON COLUMN work_keys.pik IS 'PIN key under the LMK.';
COMMENT ON COLUMN work_keys.pik_kcv IS 'Check value of the PIN key, upper-case hex.';
COMMENT ON COLUMN work_keys.mak IS 'MAC key under the LMK.';
COMMENT ON COLUMN work_keys.mak_kcv IS 'Check value of the MAC key, upper-case hex.';
COMMENT ON COLUMN work_keys.tdk IS 'Track key under the LMK; null where the terminal has none.';
COMMENT ON COLUMN work_keys.tdk_kcv IS 'Check value of the track key, upper-case hex.';
COMMENT ON COLUMN work_keys.answer IS 'Field 62 as sent: the keys under the card master key, with check values. The same sign-on again gets the same answer.';
COMMENT ON COLUMN work_keys.request_digest IS 'Digest of the sign-on that made the set: tells a repeat from a new one.';
COMMENT ON COLUMN work_keys.digest IS 'Digest of the whole set, so that a reader never uses a half-updated one (row A4).';
COMMENT ON COLUMN work_keys.made_at IS 'When the HSM made the set.';
COMMENT ON COLUMN work_keys.expires_at IS 'A pending set not used by then expires.';
COMMENT ON COLUMN work_keys.first_used_at IS 'When the first message verified with it: the set became active.';
COMMENT ON COLUMN work_keys.ends_at IS 'When the grace of a replaced set ends, or when it ended.';
COMMENT ON COLUMN work_keys.batch IS 'Batch number given to the terminal at sign-on.';

CREATE VIEW card_master_keys AS
    SELECT key_id, name, algorithm, version, lmk_domain, cryptogram, kcv FROM keys WHERE usage = 'tmk' AND state = 'active';
COMMENT ON VIEW card_master_keys IS 'The active master keys of cards: all that posp may see of keys. Root and control keys are none of its business (row P1).';

CREATE VIEW terminal_sign_ons AS
    SELECT terminal_id, version, state, algorithm, lmk_domain, psam_no, master_key_id, pik_kcv, mak_kcv, tdk_kcv,
           made_at, expires_at, first_used_at, ends_at, batch
    FROM work_keys;
COMMENT ON VIEW terminal_sign_ons IS 'Sign-ons of terminals without any cryptogram: what posv may see of work_keys.';

GRANT SELECT, INSERT, UPDATE ON keys TO keyward_keys;
GRANT SELECT, INSERT ON key_events, issue_orders, issue_order_cards TO keyward_keys;
GRANT SELECT ON card_master_keys TO keyward_posp;
GRANT SELECT, INSERT, UPDATE, DELETE ON work_keys TO keyward_posp;
GRANT SELECT ON terminal_sign_ons TO keyward_posp, keyward_posv;
GRANT SELECT, INSERT, UPDATE ON issue_runs TO keyward_issuer;
-- posv shows keys, but has no business with cryptograms.
GRANT SELECT (key_id, name, usage, algorithm, version, lmk_domain, kcv, length_bits, state, parent_id, factors, order_id,
              created_at, activated_at, ended_at) ON keys TO keyward_posv;
GRANT SELECT ON key_events, issue_orders, issue_order_cards, issue_runs TO keyward_posv;
