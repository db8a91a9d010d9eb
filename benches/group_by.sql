-- rows: 50000000
-- must: 10   aim: 25
CREATE TABLE src (k BIGINT, v BIGINT) WITH (
  'connector' = 'datagen', 'rows-per-second' = '1000000000', 'number-of-rows' = '50000000',
  'fields.k.min' = '0', 'fields.k.max' = '99999', 'fields.v.min' = '0', 'fields.v.max' = '1000000000'
);
CREATE TABLE dst (k BIGINT, n BIGINT, m BIGINT) WITH ('connector' = 'blackhole');
INSERT INTO dst SELECT k, COUNT(*), MAX(v) FROM src GROUP BY k;
