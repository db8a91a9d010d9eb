-- The demo's query, once, over the whole input.
CREATE TABLE orders (
  id BIGINT, customer_id BIGINT, amount DECIMAL(10, 2), PRIMARY KEY (id) NOT ENFORCED
) WITH ('connector' = 'filesystem', 'path' = 'target/demo/orders.json', 'format' = 'debezium-json');
CREATE TABLE customers (
  id BIGINT, name STRING, region STRING, PRIMARY KEY (id) NOT ENFORCED
) WITH ('connector' = 'filesystem', 'path' = 'examples/demo/customers.csv', 'format' = 'csv');

SELECT region, rn, name AS customer, total
FROM (
  SELECT region, name, total, ROW_NUMBER() OVER (PARTITION BY region ORDER BY total DESC) AS rn
  FROM (
    SELECT c.region, c.name, SUM(o.amount) AS total
    FROM orders AS o JOIN customers AS c ON o.customer_id = c.id
    GROUP BY c.region, c.name
  )
)
WHERE rn <= 3
ORDER BY region, rn;
