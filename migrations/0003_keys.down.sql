DROP VIEW terminal_sign_ons;
DROP VIEW card_master_keys;
DROP TABLE work_keys;
DROP TABLE issue_runs;
DROP TABLE issue_order_cards;
DROP TABLE key_events;
DROP TABLE keys;
DROP TABLE issue_orders;
