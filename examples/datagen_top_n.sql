-- The two dearest orders of each shop, out of 100,000 generated ones. Needs no files:
--   thalweg run examples/datagen_top_n.sql

CREATE TABLE orders (
  id     BIGINT,
  shop   INT,
  amount DECIMAL(10, 2)
) WITH (
  'connector' = 'datagen', 'rows-per-second' = '0', 'number-of-rows' = '100000',
  'fields.id.kind' = 'sequence', 'fields.id.start' = '1', 'fields.id.end' = '100000',
  'fields.shop.min' = '1', 'fields.shop.max' = '3',
  'fields.amount.min' = '1', 'fields.amount.max' = '5000'
);

SELECT shop, rn, id, amount
FROM (
  SELECT shop, id, amount, ROW_NUMBER() OVER (PARTITION BY shop ORDER BY amount DESC, id) AS rn
  FROM orders
)
WHERE rn <= 2
ORDER BY shop, rn;
