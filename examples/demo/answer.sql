-- The demo's output, read back: all changes of all files, folded.
CREATE TABLE top_customers (
  region STRING, rn BIGINT, customer STRING, total DECIMAL(38, 2),
  PRIMARY KEY (region, rn) NOT ENFORCED
) WITH ('connector' = 'filesystem', 'path' = 'target/demo/out', 'format' = 'debezium-json');

SELECT region, rn, customer, total FROM top_customers ORDER BY region, rn;
