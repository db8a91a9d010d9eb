-- From a CSV file to JSON files, and a look at what was written:
--   thalweg run examples/files.sql
-- The job takes the file once. Without --dir it forgets that it did: run again, it writes into the folder again.

CREATE TABLE customers (
  id     BIGINT,
  name   STRING,
  region STRING
) WITH ('connector' = 'filesystem', 'path' = 'examples/demo/customers.csv', 'format' = 'csv');

SELECT region, COUNT(*) AS customers, MIN(name) AS first_name
FROM customers
GROUP BY region
ORDER BY region;

CREATE TABLE regions (
  region    STRING,
  customers BIGINT,
  PRIMARY KEY (region) NOT ENFORCED
) WITH ('connector' = 'filesystem', 'path' = 'target/examples/regions', 'format' = 'debezium-json');

INSERT INTO regions SELECT region, COUNT(*) FROM customers GROUP BY region;
