DROP TABLE posp_instances;
DROP SEQUENCE posp_fences;
DROP TABLE reversals;
DROP TABLE transaction_keys;
DROP FUNCTION drop_transaction_partitions(int);
DROP FUNCTION ensure_transaction_partitions(date, int);
DROP TABLE transactions;
