-- The three best customers of each region, kept up to date while orders come, change and go.
-- `scripts/demo` makes the input, runs this, kills it, runs it again, and proves the output.

SET 'pipeline.name' = 'top_customers';
SET 'execution.checkpointing.interval' = '300 ms';

CREATE TABLE orders (
  id          BIGINT,
  customer_id BIGINT,
  amount      DECIMAL(10, 2),
  PRIMARY KEY (id) NOT ENFORCED
) WITH (
  'connector' = 'filesystem',
  'path' = 'target/demo/orders.json',
  'format' = 'debezium-json',
  'scan.rate-limit' = '50000'          -- so that there is a middle in which to kill it
);

CREATE TABLE customers (
  id     BIGINT,
  name   STRING,
  region STRING,
  PRIMARY KEY (id) NOT ENFORCED
) WITH ('connector' = 'filesystem', 'path' = 'examples/demo/customers.csv', 'format' = 'csv');

CREATE TABLE top_customers (
  region   STRING,
  rn       BIGINT,
  customer STRING,
  total    DECIMAL(38, 2),
  PRIMARY KEY (region, rn) NOT ENFORCED
) WITH ('connector' = 'filesystem', 'path' = 'target/demo/out', 'format' = 'debezium-json');

INSERT INTO top_customers
SELECT region, rn, name, total
FROM (
  SELECT region, name, total, ROW_NUMBER() OVER (PARTITION BY region ORDER BY total DESC) AS rn
  FROM (
    SELECT c.region, c.name, SUM(o.amount) AS total
    FROM orders AS o JOIN customers AS c ON o.customer_id = c.id
    GROUP BY c.region, c.name
  )
)
WHERE rn <= 3;
