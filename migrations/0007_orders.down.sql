DROP TABLE order_approvals;
DROP TABLE orders;
