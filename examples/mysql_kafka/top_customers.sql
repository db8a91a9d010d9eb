-- The query of examples/mysql_kafka.sql, for MySQL itself.
SELECT region, rn, name, total
FROM (
  SELECT region, name, total, ROW_NUMBER() OVER (PARTITION BY region ORDER BY total DESC, name) AS rn
  FROM (
    SELECT c.region, c.name, SUM(o.amount) AS total
    FROM orders AS o JOIN customers AS c ON o.customer_id = c.id
    GROUP BY c.region, c.name
  ) AS totals
) AS ranked
WHERE rn <= 3;
