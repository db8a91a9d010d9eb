-- rows: 400000
-- must: 5000   aim: 20000
SET 'execution.tick.rows-max' = '8';
CREATE TABLE src (k BIGINT, v BIGINT) WITH (
  'connector' = 'datagen', 'rows-per-second' = '1000000000', 'number-of-rows' = '400000',
  'fields.k.min' = '0', 'fields.k.max' = '9999', 'fields.v.min' = '0', 'fields.v.max' = '1000000'
);
CREATE TABLE dst (k BIGINT, n BIGINT, total BIGINT) WITH ('connector' = 'blackhole');
INSERT INTO dst
SELECT k, COUNT(*), SUM(twice) FROM (SELECT k, v * 2 AS twice FROM src WHERE v > 1000) GROUP BY k;
