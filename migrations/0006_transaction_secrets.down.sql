DROP TABLE transaction_secrets;
