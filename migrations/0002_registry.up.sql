-- The device table: who may trade, with which card (rows P4, P5 of the requirements). Written by posv, read by posp.
SET LOCAL ROLE keyward_owner;

CREATE TABLE merchants (
    merchant_id text PRIMARY KEY CHECK (merchant_id ~ '^[0-9A-Za-z]{15}$'),
    name        text NOT NULL,
    state       text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'suspended')),
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE merchants IS 'Merchants that own terminals. Written by posv.';
COMMENT ON COLUMN merchants.merchant_id IS 'Field 42 of the terminal dialect: 15 characters.';
COMMENT ON COLUMN merchants.name IS 'Name for people; never sent to a terminal.';
COMMENT ON COLUMN merchants.state IS 'active, or suspended: every terminal of the merchant is then refused.';
COMMENT ON COLUMN merchants.created_at IS 'When the merchant was registered.';
COMMENT ON COLUMN merchants.updated_at IS 'When the row last changed.';

CREATE TABLE terminals (
    terminal_id text PRIMARY KEY CHECK (terminal_id ~ '^[0-9A-Za-z]{8}$'),
    merchant_id text NOT NULL REFERENCES merchants,
    state       text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'suspended', 'lost', 'retired')),
    profile     text NOT NULL DEFAULT 'unionpay' CHECK (profile <> ''),
    algorithm   text NOT NULL DEFAULT 'tdes' CHECK (algorithm IN ('des', 'tdes', 'sm4')),
    mak_length  smallint NOT NULL DEFAULT 8 CHECK (mak_length IN (8, 16)),
    key_load    text NOT NULL DEFAULT 'psam' CHECK (key_load <> ''),
    test        boolean NOT NULL DEFAULT false,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX terminals_merchant ON terminals (merchant_id);
COMMENT ON TABLE terminals IS 'POS terminals. Written by posv.';
COMMENT ON COLUMN terminals.terminal_id IS 'Field 41 of the terminal dialect: 8 characters.';
COMMENT ON COLUMN terminals.merchant_id IS 'Merchant that owns the terminal; field 42 must agree with it.';
COMMENT ON COLUMN terminals.state IS 'active, suspended, lost or retired; only active terminals trade.';
COMMENT ON COLUMN terminals.profile IS 'Message dialect that the terminal speaks.';
COMMENT ON COLUMN terminals.algorithm IS 'Algorithm of the working keys: des, tdes or sm4. Always taken from here, never from a message.';
COMMENT ON COLUMN terminals.mak_length IS 'Length of the MAC key in bytes: 8 single, 16 double.';
COMMENT ON COLUMN terminals.key_load IS 'How the terminal master key reaches the terminal: psam, or one of the older ways (row P11).';
COMMENT ON COLUMN terminals.test IS 'A test terminal in production: kept out of totals (row G12).';
COMMENT ON COLUMN terminals.created_at IS 'When the terminal was registered.';
COMMENT ON COLUMN terminals.updated_at IS 'When the row last changed.';

CREATE TABLE terminal_events (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    terminal_id text NOT NULL REFERENCES terminals,
    event       text NOT NULL CHECK (event <> ''),
    from_state  text,
    to_state    text,
    actor       text NOT NULL CHECK (actor <> ''),
    at          timestamptz NOT NULL DEFAULT now(),
    detail      jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX terminal_events_terminal ON terminal_events (terminal_id, id);
COMMENT ON TABLE terminal_events IS 'History of terminals, append-only. Written by posv.';
COMMENT ON COLUMN terminal_events.id IS 'Number of the event, rising.';
COMMENT ON COLUMN terminal_events.terminal_id IS 'Terminal that the event is about.';
COMMENT ON COLUMN terminal_events.event IS 'What happened, as one word: registered, suspended, resumed …';
COMMENT ON COLUMN terminal_events.from_state IS 'State before; null when the event changed none.';
COMMENT ON COLUMN terminal_events.to_state IS 'State after; null when the event changed none.';
COMMENT ON COLUMN terminal_events.actor IS 'User or service that did it.';
COMMENT ON COLUMN terminal_events.at IS 'When it happened.';
COMMENT ON COLUMN terminal_events.detail IS 'Further facts, never key material.';

CREATE TABLE cards (
    psam_no    text PRIMARY KEY CHECK (psam_no ~ '^[0-9]{20}$'),
    state      text NOT NULL DEFAULT 'registered' CHECK (state IN
                   ('registered', 'personalised', 'in_service', 'suspended', 'lost', 'retired', 'destroyed')),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE cards IS 'PSAM cards from registration to destruction (row P4). Written by posv and by issuer.';
COMMENT ON COLUMN cards.psam_no IS 'PSAM number: 20 digits, the diversification factor is taken from it.';
COMMENT ON COLUMN cards.state IS 'registered, personalised, in_service, suspended, lost, retired or destroyed.';
COMMENT ON COLUMN cards.created_at IS 'When the card was registered.';
COMMENT ON COLUMN cards.updated_at IS 'When the row last changed.';

CREATE TABLE card_events (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    psam_no    text NOT NULL REFERENCES cards,
    event      text NOT NULL CHECK (event <> ''),
    from_state text,
    to_state   text,
    actor      text NOT NULL CHECK (actor <> ''),
    at         timestamptz NOT NULL DEFAULT now(),
    detail     jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX card_events_card ON card_events (psam_no, id);
COMMENT ON TABLE card_events IS 'History of cards, append-only. Written by posv and by issuer.';
COMMENT ON COLUMN card_events.id IS 'Number of the event, rising.';
COMMENT ON COLUMN card_events.psam_no IS 'Card that the event is about.';
COMMENT ON COLUMN card_events.event IS 'What happened, as one word: registered, personalised, bound …';
COMMENT ON COLUMN card_events.from_state IS 'State before; null when the event changed none.';
COMMENT ON COLUMN card_events.to_state IS 'State after; null when the event changed none.';
COMMENT ON COLUMN card_events.actor IS 'User or service that did it.';
COMMENT ON COLUMN card_events.at IS 'When it happened.';
COMMENT ON COLUMN card_events.detail IS 'Further facts, never key material.';

CREATE TABLE bindings (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    psam_no     text NOT NULL REFERENCES cards,
    terminal_id text NOT NULL REFERENCES terminals,
    valid_from  timestamptz NOT NULL DEFAULT now(),
    valid_to    timestamptz CHECK (valid_to >= valid_from),
    reason      text NOT NULL DEFAULT '',
    actor       text NOT NULL CHECK (actor <> '')
);
CREATE UNIQUE INDEX bindings_one_per_card ON bindings (psam_no) WHERE valid_to IS NULL;
CREATE UNIQUE INDEX bindings_one_per_terminal ON bindings (terminal_id) WHERE valid_to IS NULL;
CREATE INDEX bindings_terminal_history ON bindings (terminal_id, valid_from);
COMMENT ON TABLE bindings IS 'Which card sits in which terminal, with history. Written by posv; at most one valid row per card and per terminal.';
COMMENT ON COLUMN bindings.id IS 'Number of the binding, rising.';
COMMENT ON COLUMN bindings.psam_no IS 'The card.';
COMMENT ON COLUMN bindings.terminal_id IS 'The terminal.';
COMMENT ON COLUMN bindings.valid_from IS 'Since when the binding holds.';
COMMENT ON COLUMN bindings.valid_to IS 'Until when it held; null while it is valid.';
COMMENT ON COLUMN bindings.reason IS 'Why it was made or ended: first, replacement, loss …';
COMMENT ON COLUMN bindings.actor IS 'User or service that made it.';

CREATE TABLE device_changes (
    seq         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    terminal_id text NOT NULL REFERENCES terminals,
    kind        text NOT NULL CHECK (kind <> ''),
    at          timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE device_changes IS 'Feed of changes for the copies that posp keeps, append-only. posv inserts one row per terminal concerned, in the transaction of the change.';
COMMENT ON COLUMN device_changes.seq IS 'Rising in commit order: a reader that saw n has seen everything below n. Numbers may be missing.';
COMMENT ON COLUMN device_changes.terminal_id IS 'Terminal whose entry must be read again.';
COMMENT ON COLUMN device_changes.kind IS 'What changed: merchant, terminal, card or binding.';
COMMENT ON COLUMN device_changes.at IS 'When the transaction of the change began.';

-- Numbers are handed out when a row is inserted but become visible when it is committed, so two writers could commit in the
-- other order and a reader would miss the smaller number for ever. The lock is held until commit, and a statement trigger
-- fires before the identity column is computed, hence number order is commit order.
CREATE FUNCTION device_changes_lock() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('keyward.device_changes', 0));
    RETURN NULL;
END
$$;
CREATE TRIGGER device_changes_lock BEFORE INSERT ON device_changes FOR EACH STATEMENT EXECUTE FUNCTION device_changes_lock();

CREATE FUNCTION device_changes_notify() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_notify('keyward_device', NEW.seq::text);
    RETURN NULL;
END
$$;
CREATE TRIGGER device_changes_notify AFTER INSERT ON device_changes FOR EACH ROW EXECUTE FUNCTION device_changes_notify();

GRANT SELECT, INSERT, UPDATE ON merchants, terminals, cards, bindings TO keyward_posv;
GRANT SELECT, INSERT ON terminal_events, card_events, device_changes TO keyward_posv;
GRANT SELECT ON merchants, terminals, terminal_events, cards, card_events, bindings, device_changes TO keyward_posp;
-- The issuer registers the cards that it writes and moves them to personalised; it knows nothing of terminals.
GRANT SELECT, INSERT, UPDATE ON cards TO keyward_issuer;
GRANT SELECT, INSERT ON card_events TO keyward_issuer;
